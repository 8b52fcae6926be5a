"""VOC from its official archives to seeds, through the front door, by tiny models."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from fake_trees import (
    OFFICIAL_IMAGES,
    build_official_voc,
    draw_image,
    draw_mask,
    list_official,
    write_jpeg,
    write_lists,
)
from front_door import run
from PIL import Image
from published_tools import TINY, TOWER, digest, places, shorten

import infer
import train
from fmawsss.files.png import read_mask

TRAINAUG = ["2007_000032", "2008_000007", "2008_000009"]


def pack_voc(folder: Path) -> list[str]:
    """Put the two archives where downloads go; return their checksums as settings."""
    downloads = folder / "data" / "downloads"
    downloads.mkdir(parents=True)
    build_official_voc(folder / "trees")
    with tarfile.open(downloads / "VOCtrainval_11-May-2012.tar", "w") as archive:
        archive.add(folder / "trees/VOCdevkit", "VOCdevkit")
    with tarfile.open(downloads / "benchmark.tgz", "w:gz") as archive:
        archive.add(folder / "trees/benchmark_RELEASE", "benchmark_RELEASE")
    voc, sbd = (
        digest(downloads / name) for name in ("VOCtrainval_11-May-2012.tar", "benchmark.tgz")
    )
    sizes = ["job.voc.size=null", "job.sbd_archive.size=null"]
    return [f"job.voc.md5={voc}", f"job.sbd_archive.md5={sbd}", *sizes]


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    """A prepared VOC tree below `data`, made of its archives."""
    folder = tmp_path_factory.mktemp("voc")
    checksums = pack_voc(folder)
    with pytest.MonkeyPatch.context() as patch:
        run(infer.main, patch, "task=prepare", "dataset=voc", *checksums, *places(folder))
    return folder


def test_voc_and_sbd_become_one_tree(voc: Path) -> None:
    root = voc / "data/VOCdevkit/VOC2012"
    assert (root / "ImageSets/Segmentation/trainaug.txt").read_text().split() == TRAINAUG
    masks = {path.stem: read_mask(path) for path in (root / "SegmentationClassAug").glob("*.png")}
    assert sorted(masks) == sorted({*TRAINAUG, *list_official("voc val")})
    own = draw_mask([0, 14], (36, 50))
    assert (masks["2007_000032"] == own).all(), "VOC's own mask has ignored pixels"
    assert (
        masks["2008_000007"]
        == np.where(draw_mask([14], (36, 50)) == 255, 0, draw_mask([14], (36, 50)))
    ).all()
    with Image.open(root / "SegmentationClassAug/2008_000007.png") as mask:
        assert (mask.mode, mask.getpalette()[3:6]) == ("P", [128, 0, 0])


def test_what_is_there_is_left_alone(voc: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    shutil.copytree(voc / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data/downloads")
    root = tmp_path / "data/VOCdevkit/VOC2012"
    (root / "SegmentationClassAug/2008_000009.png").unlink()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    run(infer.main, monkeypatch, "task=prepare", "dataset=voc", *places(tmp_path))
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert {path.name for path in after.keys() - before.keys()} == {"2008_000009.png"}
    assert all(after[path] == time for path, time in before.items())
    assert "masks of trainaug" in capsys.readouterr().out


def test_without_archives_and_network_the_address_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        "fmawsss.files.downloads.urlopen",
        lambda *_, **__: (_ for _ in ()).throw(OSError("no network")),
    )
    with pytest.raises(
        FileNotFoundError,
        match=r"downloads/VOCtrainval_11-May-2012\.tar.*no network.*host\.robots\.ox",
    ):
        run(infer.main, monkeypatch, "task=prepare", "dataset=voc", *places(tmp_path))
    with pytest.raises(
        FileNotFoundError,
        match=r"downloads/train2014\.zip.*images\.cocodataset\.org/zips/train2014",
    ):
        run(infer.main, monkeypatch, "task=prepare", "dataset=coco", *places(tmp_path))


def pack_voc_test(folder: Path) -> None:
    """Put VOC's test archive, of one image, where downloads go."""
    tree = folder / "tree/VOCdevkit/VOC2012"
    write_jpeg(tree / "JPEGImages/2008_000006.jpg", draw_image(9, (36, 50)))
    write_lists(tree / "ImageSets/Segmentation", {"test": ["2008_000006"]})
    (folder / "data/downloads").mkdir()
    with tarfile.open(folder / "data/downloads/VOC2012test.tar", "w") as archive:
        archive.add(folder / "tree/VOCdevkit", "VOCdevkit")


def test_voc_test_comes_from_its_own_archive(
    voc: Path, finished: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    shutil.copytree(voc / "data/VOCdevkit", tmp_path / "data/VOCdevkit")
    network = ["dataset=voc", "split=test", "logger=none", "data.workers=0", *places(tmp_path)]
    network += [
        "task=network",
        f"ckpt={finished}/outputs/shapes/network.ckpt",
        "save_as=[voc_server]",
    ]
    with pytest.raises(
        FileNotFoundError, match=r"test\.txt does not exist.*:8080/, after login.*VOC2012test\.tar"
    ):
        run(infer.main, monkeypatch, *network)

    pack_voc_test(tmp_path)
    for _ in range(2):
        run(infer.main, monkeypatch, "task=prepare", "dataset=voc", *places(tmp_path))
    root = tmp_path / "data/VOCdevkit/VOC2012"
    assert {path.stem for path in (root / "JPEGImages").iterdir()} == {
        *OFFICIAL_IMAGES,
        "2008_000006",
    }
    assert not list(root.glob(".test-*"))
    checked = ["task=check", "dataset=voc", "split=test", "job.expected.test=1", "job.workers=0"]
    run(infer.main, monkeypatch, *checked, *places(tmp_path))
    assert "its masks and labels are not public" in capsys.readouterr().out
    run(infer.main, monkeypatch, *network)
    with tarfile.open(tmp_path / "outputs/voc/exports/network/voc_server.tar.gz") as archive:
        assert archive.getnames() == ["results/VOC2012/Segmentation/comp6_test_cls/2008_000006.png"]


def test_another_archive_adds_no_test_images(voc: Path, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(voc / "data/VOCdevkit", tmp_path / "data/VOCdevkit")
    (tmp_path / "data/downloads").mkdir()
    shutil.copy(
        voc / "data/downloads/VOCtrainval_11-May-2012.tar",
        tmp_path / "data/downloads/VOC2012test.tar",
    )
    before = sorted((tmp_path / "data/VOCdevkit").rglob("*"))
    with pytest.raises(
        ValueError,
        match=r"VOC2012test\.tar holds no list ImageSets/Segmentation/test\.txt of its images",
    ):
        run(infer.main, monkeypatch, "task=prepare", "dataset=voc", *places(tmp_path))
    assert sorted((tmp_path / "data/VOCdevkit").rglob("*")) == before


def test_a_tree_that_is_not_whole_says_what_it_lacks(
    voc: Path, tmp_path: Path, monkeypatch
) -> None:
    shutil.copytree(voc / "data/VOCdevkit", tmp_path / "data/VOCdevkit")
    shutil.copytree(voc / "data/sbd", tmp_path / "data/sbd")
    root = tmp_path / "data/VOCdevkit/VOC2012"
    (tmp_path / "data/sbd/train.txt").unlink()
    (root / "ImageSets/Segmentation/trainaug.txt").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"data/sbd lacks train\.txt: .*move it away and run"
    ):
        run(infer.main, monkeypatch, "task=prepare", "dataset=voc", *places(tmp_path))
    (root / "ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"VOC2012 lacks ImageSets/Segmentation/val\.txt: .*move it away and run",
    ):
        run(infer.main, monkeypatch, "task=prepare", "dataset=voc", *places(tmp_path))


def test_the_published_voc_pipeline(voc: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    there = [f"paths.data={voc}/data", f"paths.outputs={tmp_path}", *TINY]
    run(
        train.main,
        monkeypatch,
        "experiment=voc",
        TOWER,
        *there,
        *shorten(("cls", "seg", "network")),
    )
    work = tmp_path / "voc"
    for kind in ("coarse", "fine"):
        assert sorted(path.stem for path in (work / "seeds" / kind).glob("*.png")) == TRAINAUG
        assert set(np.unique(read_mask(work / "seeds" / kind / "2008_000007.png"))) <= {0, 15}
    assert [path.stem for path in (work / "masks").glob("*.png")] == list_official("voc val")
    assert "IoU per class" in capsys.readouterr().out
    table = json.loads((work / "scores.json").read_text())
    assert {stage: set(splits) for stage, splits in table.items()} == {
        "cls": {"trainaug", "train"}, "seg": {"trainaug", "train"}, "network": {"val"}
    }  # fmt: skip
    scores = table["cls"]
    assert set(scores) == {"trainaug", "train"}
    for key in ("miou", "accuracy", "mean_precision", "mean_recall"):
        assert 0 <= scores["train"]["sams"][key] <= 1
    assert not scores["train"]["sams"]["present"]["bird"], "only the image of train counts"
    assert scores["trainaug"]["sams"]["iou"].keys() == scores["trainaug"]["sams"]["recall"].keys()


@pytest.mark.parametrize("labels", ["masks", "xml", "file", "list"])
def test_labels_of_every_kind_are_read(
    voc: Path, tmp_path: Path, monkeypatch, capsys, labels: str
) -> None:
    (tmp_path / "labels.csv").write_text(
        "name,labels\n2007_000032,person;bird avian\n2008_000007,\n2008_000009,bus\n"
    )
    (tmp_path / "labels.txt").write_text(
        "2007_000032.jpg person bird\n2008_000007\n2008_000009 bus\n"
    )
    path = {"file": tmp_path / "labels.csv", "list": tmp_path / "labels.txt"}.get(labels)
    settings = [f"dataset/labels={labels}", *([f"dataset.labels.path={path}"] if path else [])]
    there = [
        f"paths.data={voc}/data",
        f"paths.outputs={tmp_path}",
        "split=trainaug",
        "job.expected.trainaug=3",
    ]
    run(infer.main, monkeypatch, "task=check", "dataset=voc", "job.workers=0", *there, *settings)
    shown = capsys.readouterr().out
    assert ("no file to repair" if path else "nothing to repair") in shown
    assert ("1 images show no class" in shown) == (path is not None)
    assert ("no image shows aeroplane" in shown) == (path is not None)


def test_a_task_without_a_model_is_not_trained(monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"python infer\.py task=prepare"):
        run(train.main, monkeypatch, "task=prepare", "dataset=voc")
