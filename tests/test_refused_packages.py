"""Packages of superpixels that are cut off, changed, or made by someone who means harm."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from front_door import run
from package_tools import SIZES, Elsewhere, export, keep, rewrite

import infer


@pytest.fixture(scope="module")
def packed(finished: Path, tmp_path_factory) -> Path:
    """The superpixels of the finished pipeline, written by the door."""
    folder = tmp_path_factory.mktemp("superpixels") / "mine"
    export(folder, finished / "data", finished / "outputs")
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Elsewhere:
    return Elsewhere(tmp_path / "elsewhere", monkeypatch)


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


def test_superpixels_that_were_not_made_here_are_not_packed(tmp_path, monkeypatch) -> None:
    words = ["task=export", "format=superpixels", f"paths.outputs={tmp_path}"]
    with pytest.raises(FileNotFoundError, match=r"superpixels holds no superpixels.*job\.super"):
        run(infer.main, monkeypatch, *words)
    assert not list(tmp_path.rglob("superpixels.tar"))
