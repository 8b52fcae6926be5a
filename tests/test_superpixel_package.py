"""Superpixels travel as one archive, and are those of a machine that never cut them."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from front_door import QUICK, run

import infer
from fmawsss.files.fingerprints import fingerprint
from fmawsss.files.png import read_mask
from fmawsss.files.products import ProductMismatch
from fmawsss.files.superpixel_package import ABOUT, IMAGES, digest

SIZES = ["dataset.train_images=6", "dataset.val_images=3"]
CUT = next(word for word in QUICK if "points_per_side" in word).rpartition("=")[2]


@pytest.fixture(scope="module")
def packed(finished: Path, tmp_path_factory) -> Path:
    """The superpixels of the finished pipeline, written by the door."""
    folder = tmp_path_factory.mktemp("superpixels") / "mine"
    export(folder, finished / "data", finished / "outputs")
    return folder


def export(folder: Path, data: Path, outputs: Path) -> None:
    """Write the superpixels of some outputs as a package."""
    places = [f"paths.data={data}", f"paths.outputs={outputs}", f"hydra.run.dir={folder}_run"]
    with pytest.MonkeyPatch.context() as patch:
        run(infer.main, patch, "task=export", "format=superpixels", f"job.path={folder}", *places)


class Elsewhere:
    """A machine that draws the same images, and has cut none."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.work = folder / "outputs/shapes"
        self.superpixels = self.work / "superpixels"

    def infer(self, *words: str) -> None:
        places = [f"paths.data={self.folder}/data", f"paths.outputs={self.folder}/outputs"]
        run(infer.main, self.monkeypatch, *words, *places)

    def unpack(self, package: Path | str, *words: str) -> None:
        self.infer("task=unpack", f"package={package}", *SIZES, *words)

    def list_files(self) -> dict[str, bytes]:
        """List what lies in the folder of superpixels and beside it, but locks."""
        files = sorted(self.work.glob("superpixels*")) + sorted(self.superpixels.glob("*"))
        return {file.name: file.read_bytes() for file in files if file.is_file()}


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    return Elsewhere(tmp_path / "elsewhere", monkeypatch)


def rewrite(
    packed: Path, folder: Path, change: Callable[[str, bytes], bytes | tarfile.TarInfo],
    lines: Callable[[list[dict]], list[dict]] = lambda lines: lines,
) -> Path:  # fmt: skip
    """Write a package again whose digests are right, with other content."""
    path = folder / "superpixels.tar"
    with tarfile.open(packed / path.name) as archive:
        held = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}
    about, index = json.loads(held.pop(ABOUT)), held.pop(IMAGES)
    found = lines([json.loads(line) for line in index.decode().splitlines()])
    files = {}
    for line in found:
        name = f"{line['name']}.npz"
        data = change(name, held.get(name, b"other"))
        files[name] = data
        if isinstance(data, bytes):
            line.update(size=len(data), digest=digest(data))
    index = "".join(json.dumps(line) + "\n" for line in found).encode()
    about["images"] = {"count": len(found), "bytes": len(index), "digest": digest(index)}
    with tarfile.open(path, "w") as archive:
        for name, data in {ABOUT: json.dumps(about).encode(), IMAGES: index, **files}.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def keep(name: str, data: bytes) -> bytes:
    """Change nothing."""
    return data


def test_the_card_says_what_they_are(packed: Path, finished: Path) -> None:
    card = (packed / "README.md").read_text()
    for told in ("6 images", "`tiny_sam`", "`shapes`", "`weights`", "terms of the images"):
        assert told in card
    assert str(finished) not in card
    assert sorted(path.name for path in packed.iterdir()) == ["README.md", "superpixels.tar"]


def test_another_machine_takes_them_for_its_own(
    packed: Path, finished: Path, elsewhere: Elsewhere, capsys
) -> None:
    elsewhere.unpack(packed)
    before = elsewhere.list_files()
    elsewhere.infer("task=superpixels", f"masks.points_per_side={CUT}", *SIZES, "report=none")
    assert "is complete for train, skipped" in capsys.readouterr().out
    assert elsewhere.list_files() == before

    # seeds of them are those of the machine that cut them
    words = [f"ckpt={finished}/outputs/shapes/cls.ckpt", "learn=all", "logger=none", "report=none"]
    elsewhere.infer("task=cls", *words, *SIZES)
    masks = sorted((elsewhere.work / "seeds/coarse").glob("*.png"))
    assert len(masks) == 6
    for mask in masks:
        cut = finished / "outputs/shapes/seeds/coarse" / mask.name
        np.testing.assert_array_equal(read_mask(mask), read_mask(cut))


def test_the_same_superpixels_are_the_same_bytes(
    packed: Path, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    elsewhere.unpack(packed)
    export(tmp_path / "again", elsewhere.folder / "data", elsewhere.folder / "outputs")
    for name in ("superpixels.tar", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (packed / name).read_bytes()


def test_the_same_command_changes_nothing_and_makes_good(
    packed: Path, elsewhere: Elsewhere, capsys
) -> None:
    elsewhere.unpack(packed)
    before = elsewhere.list_files()
    elsewhere.unpack(packed)
    assert "0 of them newly" in capsys.readouterr().out
    assert elsewhere.list_files() == before
    (elsewhere.superpixels / "train_00002.npz").write_bytes(b"")
    (elsewhere.superpixels / "train_00003.npz").unlink()
    elsewhere.unpack(packed / "superpixels.tar")
    after = elsewhere.list_files()
    for name in ("train_00002.npz", "train_00003.npz", "superpixels.json"):
        assert after[name] == before[name]


def test_a_repository_of_the_hub_is_fetched(
    packed: Path, elsewhere: Elsewhere, monkeypatch
) -> None:
    asked = []

    def fetch(name: str, file: str, revision: str | None = None, repo_type: str = "") -> str:
        asked.append((name, file, repo_type))
        return str(packed / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    elsewhere.unpack("me/superpixels")
    assert asked == [("me/superpixels", "superpixels.tar", "dataset")]
    assert len(list(elsewhere.superpixels.glob("*.npz"))) == 6


def test_an_image_that_the_package_lacks_is_told_and_cut(
    packed: Path, elsewhere: Elsewhere, tmp_path: Path, capsys
) -> None:
    fewer = rewrite(packed, tmp_path, keep, lambda lines: lines[1:])
    elsewhere.unpack(fewer)
    assert "1 images have no superpixels: train_00000" in capsys.readouterr().out
    record = json.loads((elsewhere.work / "superpixels.json").read_text())
    assert not record["parts"]["train"]["complete"]
    before = elsewhere.list_files()
    elsewhere.infer("task=superpixels", f"masks.points_per_side={CUT}", *SIZES, "report=none")
    after = elsewhere.list_files()
    with tarfile.open(packed / "superpixels.tar") as archive:
        assert after["train_00000.npz"] == archive.extractfile("train_00000.npz").read()
    assert all(after[name] == before[name] for name in before if name.endswith(".npz"))


def test_superpixels_of_other_images_are_refused(
    packed: Path, elsewhere: Elsewhere, capsys
) -> None:
    with pytest.raises(ValueError, match=r"none of which is among the 6 here.*6 have the name"):
        elsewhere.unpack(packed, "dataset.draw_seed=77")
    assert not elsewhere.superpixels.exists()

    # of one that was painted over, these alone
    elsewhere.unpack(packed)
    shutil.rmtree(elsewhere.folder / "outputs")
    images = sorted(elsewhere.folder.glob("data/*/JPEGImages/train_*"))
    shutil.copy(images[1], images[0])
    elsewhere.unpack(packed)
    assert "1 images have other files here" in capsys.readouterr().out
    assert len(list(elsewhere.superpixels.glob("*.npz"))) == 5


def test_superpixels_of_other_settings_stay(packed: Path, elsewhere: Elsewhere) -> None:
    elsewhere.infer("task=superpixels", "masks.points_per_side=3", *SIZES, "report=none")
    before = elsewhere.list_files()
    with pytest.raises(ProductMismatch, match=r"applying\.generator\.points_per_side"):
        elsewhere.unpack(packed)
    assert elsewhere.list_files() == before


@pytest.mark.parametrize("left", [0.0, 0.02, 0.2, 0.5, 0.6])
def test_what_is_cut_off_is_refused(
    packed: Path, elsewhere: Elsewhere, tmp_path: Path, left: float
) -> None:
    data = (packed / "superpixels.tar").read_bytes()
    cut = tmp_path / "superpixels.tar"
    cut.write_bytes(data[: int(len(data) * left)])
    with pytest.raises(ValueError, match=r"superpixels\.tar.*cut off.*fetch it again"):
        elsewhere.unpack(cut)
    elsewhere.unpack(packed)  # the whole one makes good
    assert len(list(elsewhere.superpixels.glob("*.npz"))) == 6


def test_every_byte_counts(packed: Path, elsewhere: Elsewhere, tmp_path: Path) -> None:
    data = bytearray((packed / "superpixels.tar").read_bytes())
    place = data.index(b"counts.npy") + 100
    data[place] ^= 1
    other = tmp_path / "superpixels.tar"
    other.write_bytes(data)
    with pytest.raises(ValueError, match=r"train_00000\.npz is not what was packed"):
        elsewhere.unpack(other)


def test_settings_that_it_does_not_have_are_refused(
    packed: Path, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    data = (packed / "superpixels.tar").read_bytes()
    (tmp_path / "superpixels.tar").write_bytes(data.replace(b"tiny_sam", b"vit__sam", 1))
    with pytest.raises(ValueError, match="its settings are not those"):
        elsewhere.unpack(tmp_path)


def steal(folder: Path) -> Callable[[list[dict]], list[dict]]:
    """Name a file outside the folder of superpixels, too."""
    return lambda lines: [{**lines[0], "name": f"../../../{folder.name}/stolen"}, *lines[1:]]


def test_no_name_leads_out_of_the_folder(
    packed: Path, elsewhere: Elsewhere, tmp_path: Path, capsys
) -> None:
    elsewhere.unpack(rewrite(packed, tmp_path, keep, steal(tmp_path)))
    assert "1 images of the package are not here" in capsys.readouterr().out
    assert not list(tmp_path.rglob("stolen*"))
    assert len(list(elsewhere.superpixels.glob("*"))) == 5


def test_a_link_is_no_superpixels(packed: Path, elsewhere: Elsewhere, tmp_path: Path) -> None:
    def link(name: str, data: bytes) -> tarfile.TarInfo:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        return member

    with pytest.raises(ValueError, match=r"it holds 'train_00000.npz' .* in place of"):
        elsewhere.unpack(rewrite(packed, tmp_path, link))
    assert not list(elsewhere.superpixels.glob("*"))


def test_archives_of_other_things_are_refused(
    packed: Path, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    def other(name: str, data: bytes) -> bytes:
        return b"nothing of the kind"

    with pytest.raises(ValueError, match=r"train_00000\.npz is broken or no npz archive"):
        elsewhere.unpack(rewrite(packed, tmp_path, other))
    assert not list(elsewhere.superpixels.glob("*"))


def test_lines_of_other_things_are_refused(
    packed: Path, elsewhere: Elsewhere, tmp_path: Path
) -> None:
    negative = {"levels": [-1, 0, 0], "covered": 0.5, "median_area": None}
    wrongs = [{"facts": {}}, {"facts": negative}, {"name": 3}, {"image": None}, {"more": 1}]
    for wrong in wrongs:
        other = rewrite(packed, tmp_path, keep, lambda lines, wrong=wrong: [lines[0] | wrong])
        with pytest.raises(ValueError, match=r"line 1 of images\.jsonl is none about an image"):
            elsewhere.unpack(other)
    twice = rewrite(packed, tmp_path, keep, lambda lines: [lines[0], dict(lines[0])])
    with pytest.raises(ValueError, match=r"line 2 of images\.jsonl names an image twice"):
        elsewhere.unpack(twice)


def test_what_is_no_package_is_named(elsewhere: Elsewhere, tmp_path: Path) -> None:
    (tmp_path / "superpixels.tar").write_text("no archive at all" * 100)
    with pytest.raises(ValueError, match=r"superpixels\.tar is no package of superpixels"):
        elsewhere.unpack(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no package .*absent\.tar"):
        elsewhere.unpack("absent.tar")
    with pytest.raises(ValueError, match="package=FOLDER"):
        elsewhere.infer("task=unpack", *SIZES)


def test_fingerprints_of_records_are_those_of_their_settings(finished: Path) -> None:
    record = json.loads((finished / "outputs/shapes/superpixels.json").read_text())
    assert fingerprint({"settings": record["settings"], "upstream": {}}) == record["fingerprint"]


def test_superpixels_that_were_not_made_here_are_not_packed(tmp_path, monkeypatch) -> None:
    words = ["task=export", "format=superpixels", f"paths.outputs={tmp_path}"]
    with pytest.raises(FileNotFoundError, match=r"superpixels holds no superpixels.*job\.super"):
        run(infer.main, monkeypatch, *words)
    assert not list(tmp_path.rglob("superpixels.tar"))
