"""Files come back as they were written; broken or foreign ones are refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fmawsss.files import storage
from fmawsss.files.json_files import read_json, write_json
from fmawsss.files.png import read_mask
from fmawsss.files.storage import (
    Cams,
    read_cams,
    read_superpixels,
    write_cams,
    write_half_cams,
    write_superpixels,
)
from fmawsss.files.writing import replace_file, write_bytes
from fmawsss.superpixels import Superpixels, encode_masks


def make_superpixels() -> Superpixels:
    masks = torch.rand(5, 12, 9, generator=torch.Generator().manual_seed(0)) > 0.5
    counts, offsets = encode_masks(masks)
    boxes, scores = torch.arange(20).view(5, 4), torch.linspace(0, 1, 5)
    level, point = torch.arange(5).byte() % 3, torch.rand(5, 2).double()
    return Superpixels(
        (12, 9), level, masks.sum((1, 2)), boxes, scores, 1 - scores, point, boxes, counts, offsets
    )


def make_cams() -> Cams:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 4, 6, generator=generator) * torch.tensor([1e-4, 30.0])[:, None, None]
    return Cams(maps, torch.tensor([3, 7]), torch.rand(24, 24, generator=generator))


@pytest.mark.parametrize(
    "record", [make_superpixels(), Superpixels.empty((12, 9))], ids=["five", "none"]
)
def test_superpixels_come_back(record: Superpixels, tmp_path: Path) -> None:
    path = tmp_path / "new" / "image.npz"
    write_superpixels(path, record, "abc")
    for found in (read_superpixels(path), read_superpixels(path, "abc")):
        assert found.size == (12, 9)
        for name, value in list(vars(record).items())[1:]:
            assert getattr(found, name).dtype == value.dtype
            assert torch.equal(getattr(found, name), value)
    assert [file.name for file in path.parent.iterdir()] == ["image.npz"]


def test_superpixels_of_other_settings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.npz"
    write_superpixels(path, make_superpixels(), "abc")
    with pytest.raises(
        ValueError,
        match=r"image\.npz was made with other settings: .*abc, expected def.*overwrite=true",
    ):
        read_superpixels(path, "def")


@pytest.mark.parametrize("keep", [0, 1, 30, 400, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("read", [read_superpixels, read_cams])
def test_truncated_archives_are_refused(
    read: Callable[[Path], object], keep: float, tmp_path: Path
) -> None:
    path = tmp_path / "image.npz"
    if read is read_superpixels:
        write_superpixels(path, make_superpixels(), "abc")
    else:
        write_cams(path, make_cams(), "abc")
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"image\.npz is broken or no npz archive .*delete it"):
        read(path)


@pytest.mark.parametrize("place", [0.3, 0.5, 0.6])
def test_flipped_bytes_are_noticed(place: float, tmp_path: Path) -> None:
    path = tmp_path / "image.npz"
    write_cams(path, make_cams(), "abc")
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"image\.npz"):
        read_cams(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    for read in (read_superpixels, read_cams, read_mask, read_json):
        with pytest.raises(FileNotFoundError, match=r"nothing\.here"):
            read(tmp_path / "nothing.here")


def rewrite(path: Path, **changes: object) -> None:
    with np.load(path) as archive:
        arrays = {**archive, **changes}
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def test_other_versions_and_kinds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.npz"
    write_superpixels(path, make_superpixels(), "abc")
    with pytest.raises(
        ValueError, match=r"'fmawsss superpixels' version 1, expected 'fmawsss cams' version 1"
    ):
        read_cams(path)
    rewrite(path, version=np.array(2))
    with pytest.raises(ValueError, match=r"version 2, expected 'fmawsss superpixels' version 1"):
        read_superpixels(path)
    np.savez(path, masks=np.zeros(3))
    with pytest.raises(ValueError, match=r"holds 'None' version None, expected"):
        read_superpixels(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="no npz archive"):
        read_superpixels(path)


def test_pickles_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "image.npz"
    np.savez(path, cam=np.array([{"code": 1}], dtype=object), fg_cls=np.zeros(1))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_cams(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": None},
        {"level": np.zeros(4, np.uint8)},
        {"size": np.array([12, 10])},
        {"size": np.array(12)},
        {"offsets": np.zeros(6, np.int64)},
        {"counts": np.full(400, -1, np.int32)},
        {"area": np.full(5, 3)},
        {"level": np.full(5, 7, np.uint8)},
        {"level": np.full(5, np.nan)},
        {"box": np.zeros((5, 2), np.int64)},
        {"predicted_iou": np.zeros((5, 1), np.float32)},
        {"stability": np.full(5, np.nan, np.float32)},
        {"size": np.array([12, 9, 3])},
        {"size": np.array([12.0, 9.0])},
        {"offsets": np.arange(6.0)},
    ],
)
def test_records_that_do_not_fit_together_are_refused(
    changes: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "image.npz"
    write_superpixels(path, make_superpixels(), "abc")
    rewrite(path, **changes)
    with pytest.raises(ValueError, match=r"image\.npz holds no whole superpixel record"):
        read_superpixels(path)


def test_records_in_other_types_of_the_same_numbers_are_read(tmp_path: Path) -> None:
    path, record = tmp_path / "image.npz", make_superpixels()
    write_superpixels(path, record, "abc")
    rewrite(
        path,
        counts=record.counts.numpy().astype(np.uint16),
        area=record.area.numpy().astype(np.int32),
    )
    found = read_superpixels(path)
    assert torch.equal(found.counts, record.counts)
    assert found.area.dtype == torch.int64


def test_a_mask_without_a_pixel_is_refused(tmp_path: Path) -> None:
    masks = torch.zeros(1, 4, 4, dtype=torch.bool)
    (counts, offsets), box, point, one = (
        encode_masks(masks),
        torch.zeros(1, 4).long(),
        torch.zeros(1, 2).double(),
        torch.ones(1),
    )
    empty = Superpixels(
        (4, 4), one.byte(), one.long() - 1, box, one, one, point, box, counts, offsets
    )
    write_superpixels(tmp_path / "image.npz", empty, "abc")
    with pytest.raises(ValueError, match="without a pixel"):
        read_superpixels(tmp_path / "image.npz")


def test_cams_come_back(tmp_path: Path) -> None:
    cams, path = make_cams(), tmp_path / "image.npz"
    write_cams(path, cams, "abc")
    found = read_cams(path, "abc")
    assert found.attention is not None
    assert cams.attention is not None
    assert torch.equal(found.maps, cams.maps)
    assert torch.equal(found.classes, cams.classes)
    assert torch.equal(found.attention, cams.attention)
    with pytest.raises(ValueError, match="other settings"):
        read_cams(path, "def")


def test_half_cams_are_close_map_by_map(tmp_path: Path) -> None:
    cams, path = make_cams(), tmp_path / "image.npz"
    write_half_cams(path, cams, "abc")
    found = read_cams(path)
    assert found.maps.dtype == torch.float32
    for left, right in zip(found.maps, cams.maps, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=float(right.abs().max()) / 2000)
    torch.testing.assert_close(found.attention, cams.attention, rtol=0, atol=1e-3)
    with np.load(path) as archive:
        assert archive["cam"].dtype == np.float16
        assert archive["cam_scale"].dtype == np.float32


@pytest.mark.parametrize("write", [write_cams, write_half_cams])
def test_images_without_classes_have_cams_too(
    write: Callable[[Path, Cams, str], None], tmp_path: Path
) -> None:
    path = tmp_path / "image.npz"
    write(path, Cams(torch.zeros(0, 4, 6), torch.zeros(0).long(), None), "abc")
    found = read_cams(path)
    assert found.maps.shape == (0, 4, 6)
    assert found.classes.shape == (0,)
    assert found.attention is None


def test_cams_of_the_released_code_are_read(tmp_path: Path) -> None:
    path, maps = (
        tmp_path / "image.npz",
        np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float16),
    )
    np.savez(path, cam=maps, fg_cls=np.array([1, 5], np.uint8))
    found = read_cams(path, "any fingerprint")
    assert found.maps.tolist() == maps.astype(np.float32).tolist()
    assert found.classes.tolist() == [1, 5]
    np.savez(path, cam=maps, fg_cls=np.array([1, 5, 6]))
    with pytest.raises(ValueError, match=r"shape \(2, 4, 6\), expected one map .* 3 classes"):
        read_cams(path)
    np.savez(path, fg_cls=np.array([1, 5, 6]))
    with pytest.raises(ValueError, match="shape None"):
        read_cams(path)


def test_archives_are_told_apart_without_unpacking_them(tmp_path: Path, monkeypatch) -> None:
    superpixels, cams = tmp_path / "superpixels.npz", tmp_path / "cams.npz"
    storage.write_superpixels(superpixels, make_superpixels(), "of these settings")
    storage.write_cams(cams, make_cams(), "of these settings")
    unpacked, unpack = set(), np.lib.npyio.NpzFile.__getitem__

    def note(archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
        unpacked.add(name)
        return unpack(archive, name)

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", note)
    assert storage.holds_superpixels(superpixels, "of these settings")
    assert storage.holds_cams(cams, "of these settings")
    assert unpacked == {"format", "version", "fingerprint"}

    # of other settings, of another kind, cut off, not there
    assert not storage.holds_superpixels(superpixels, "of others")
    assert not storage.holds_superpixels(cams, "of these settings")
    superpixels.write_bytes(superpixels.read_bytes()[:-9])
    assert not storage.holds_superpixels(superpixels, "of these settings")
    assert not storage.holds_superpixels(tmp_path / "none.npz", "of these settings")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.npz"
    write_bytes(path, b"old")

    def fail(file: object, **arrays: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.np, "savez_compressed", fail)
    with pytest.raises(KeyboardInterrupt):
        write_superpixels(path, make_superpixels(), "abc")
    with pytest.raises(IsADirectoryError), replace_file(path) as temporary:
        temporary.parent.write_bytes(temporary.write_bytes(b"new").to_bytes())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "record.json"
    write_json(path, {"name": "真", "values": [1, 2.5, None]})
    assert read_json(path) == {"name": "真", "values": [1, 2.5, None]}
    assert "真" in path.read_text(encoding="utf-8")
    path.write_text('{"name": ')
    with pytest.raises(ValueError, match=r"record\.json is no JSON"):
        read_json(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"record\.json is no JSON"):
        read_json(path)
