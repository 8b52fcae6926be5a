"""Bad input fails before anything is trained: which file, what was expected, what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from front_door import run
from hydra.errors import InstantiationException
from omegaconf.errors import InterpolationResolutionError
from PIL import Image

import infer
import train
from datamodules.shapes import describe_scene

QUICK = ["dataset.train_images=4", "dataset.val_images=2", "module.generator.points_per_side=2"]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with a drawn data set and its superpixels."""
    folder = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        run(infer.main, patch, "task=superpixels", *QUICK, *places(folder))
    return folder


@pytest.fixture
def tree(drawn, tmp_path) -> Path:
    """A copy of it to spoil."""
    shutil.copytree(drawn, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture(autouse=True)
def untrained(monkeypatch):
    """Fail for another reason when anything is trained."""
    monkeypatch.setattr("lightning.Trainer.fit", None)


def places(folder: Path) -> list[str]:
    return [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs", "logger=none"]


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def train_cls(monkeypatch, folder: Path, *overrides: str) -> None:
    overrides = (
        "task=cls",
        "dataset.train_images=4",
        "dataset.val_images=2",
        "loop.max_steps=1",
        *overrides,
    )
    run(train.main, monkeypatch, *overrides, *places(folder))


def test_an_unknown_class_names_the_file(tree, monkeypatch):
    annotation = tree / "data/shapes-0/Annotations/train_00001.xml"
    annotation.write_text(describe_scene("train_00001", (112, 112), ["pentagon"]))
    with pytest.raises(
        ValueError, match=r"train_00001\.xml[\s\S]*pentagon|pentagon[\s\S]*train_00001\.xml"
    ):
        train_cls(monkeypatch, tree)


def test_a_missing_image_is_found_before_training(tree, monkeypatch):
    (tree / "data/shapes-0/JPEGImages/train_00002.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"train_00002\.jpg"):
        train_cls(monkeypatch, tree)


def test_a_truncated_image_names_itself(tree, monkeypatch):
    cut_off(tree / "data/shapes-0/JPEGImages/train_00000.jpg")
    with pytest.raises(ValueError, match=r"train_00000\.jpg cannot be read"):
        train_cls(monkeypatch, tree)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((5, 5), np.uint8), r"size \(5, 5\), its image \(112, 112\)"),
        (np.zeros((112, 112, 3), np.uint8), "RGB"),
    ],
)
def test_a_mask_that_does_not_fit_names_itself(tree, monkeypatch, mask, message):
    Image.fromarray(mask).save(tree / "data/shapes-0/SegmentationClass/train_00003.png")
    with pytest.raises(ValueError, match=rf"train_00003\.png.*{message}"):
        train_cls(monkeypatch, tree)


def test_broken_superpixels_name_themselves(tree, monkeypatch):
    cut_off(tree / "outputs/shapes/superpixels/train_00002.npz")
    with pytest.raises(
        ValueError, match=r"train_00002\.npz is broken.*run the command that made it"
    ):
        train_cls(monkeypatch, tree)


def test_seeds_of_another_size_name_themselves(tree, monkeypatch):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(
        tree / "data/shapes-0/SegmentationClass/train_00003.png"
    )
    seeds = f"seeds={tree}/data/shapes-0/SegmentationClass"
    with pytest.raises(ValueError, match=r"train_00003\.png has the size"):
        run(train.main, monkeypatch, "task=network", seeds, *QUICK[:2], *places(tree))


def test_a_pipeline_finds_bad_files_of_its_last_split(tree, monkeypatch):
    data = tree / "data/shapes-0"
    for spoil, file in (
        (
            lambda path: Image.fromarray(np.zeros((5, 5), np.uint8)).save(path),
            data / "SegmentationClass/val_00001.png",
        ),
        (cut_off, data / "JPEGImages/val_00000.jpg"),
    ):
        spoil(file)
        with pytest.raises(ValueError, match=file.name):
            run(train.main, monkeypatch, *QUICK[:2], *places(tree))
    assert not list((tree / "outputs").rglob("*.ckpt"))


def test_a_pipeline_finds_bad_truths_beside_seeds_that_it_will_make(tree, monkeypatch):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(
        tree / "data/shapes-0/SegmentationClass/train_00001.png"
    )
    monkeypatch.setattr("lightning.Trainer.predict", None)
    with pytest.raises(ValueError, match=r"train_00001\.png"):
        run(train.main, monkeypatch, *QUICK[:2], *places(tree))


def test_an_empty_split_is_refused(tree, monkeypatch):
    (tree / "data/shapes-0/ImageSets/Segmentation/train.txt").write_text("")
    with pytest.raises(ValueError, match="empty"):
        train_cls(monkeypatch, tree)


def test_no_image_with_a_label_is_refused(tree, monkeypatch):
    for annotation in (tree / "data/shapes-0/Annotations").glob("*.xml"):
        annotation.write_text(describe_scene(annotation.stem, (112, 112), []))
    with pytest.raises(ValueError, match="no image of the training split has a label"):
        train_cls(monkeypatch, tree)


def test_missing_superpixels_name_the_command_before_training(tree, monkeypatch):
    shutil.rmtree(tree / "outputs/shapes/superpixels")
    with pytest.raises(FileNotFoundError, match=r"python infer\.py task=superpixels"):
        train_cls(monkeypatch, tree)


def test_a_pipeline_finds_bad_labels_before_its_first_stage(tree, monkeypatch):
    annotation = tree / "data/shapes-0/Annotations/train_00001.xml"
    annotation.write_text(describe_scene("train_00001", (112, 112), ["pentagon"]))
    monkeypatch.setattr("fmawsss.sam.generator.SuperpixelGenerator.generate", None)
    with pytest.raises(ValueError, match="pentagon"):
        run(train.main, monkeypatch, *QUICK[:2], *places(tree))


def test_missing_seeds_name_the_command(tree, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"python train\.py task=cls"):
        run(train.main, monkeypatch, "task=seg", *QUICK[:2], *places(tree))


def test_a_missing_checkpoint_names_the_command(tree, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"python train\.py task=cls"):
        run(infer.main, monkeypatch, "task=cls", *QUICK[:2], *places(tree))


def test_missing_data_say_where_to_get_them(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"trainaug\.txt[\s\S]*dataset\.root"):
        run(train.main, monkeypatch, "task=cls", "dataset=voc", "clip=vit_b16", *places(tmp_path))


@pytest.mark.parametrize(
    ("option", "file"), [("clip=vit_b16", "ViT-B-16"), ("clip=vit_l14", "ViT-L-14")]
)
def test_missing_clip_weights_say_url_and_place(tree, monkeypatch, option, file):
    with pytest.raises(
        InstantiationException, match=rf"(?s)https://.*{tree}/weights|{tree}/weights.*https://"
    ):
        train_cls(monkeypatch, tree, option, f"paths.weights={tree}/weights")


def test_broken_clip_weights_name_themselves(tree, monkeypatch):
    (tree / "weights").mkdir()
    (tree / "weights/ViT-B-16.pt").write_bytes(b"no weights at all")
    with pytest.raises(
        InstantiationException, match=r"(?s)ViT-B-16\.pt holds no whole weights.*delete it"
    ) as caught:
        train_cls(monkeypatch, tree, "clip=vit_b16", f"paths.weights={tree}/weights")
    assert "weights_only" not in str(caught.value)


def test_missing_sam_weights_say_url_and_place(tree, monkeypatch):
    overrides = [
        "task=superpixels",
        "sam=vit_b",
        *QUICK,
        f"paths.weights={tree}/weights",
        *places(tree),
    ]
    with pytest.raises(InstantiationException, match=r"(?s)sam_vit_b_01ec64\.pth.*https://"):
        run(infer.main, monkeypatch, *overrides)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ckpt=nothing.ckpt", r"nothing\.ckpt: no checkpoint.*keeps every 50th step"),
        ("ckpt=7", r"step_000007\.ckpt: no checkpoint"),
        ("apply_step=100", r"step_000100\.ckpt: no checkpoint"),
        ("writers.seeds.kind=foo", r"(?s)kind 'foo'.*sams, memory, text, caa, cam"),
        ("val_every=1", r"val_every=1, but stage cls has no images.*data\.val_split"),
        ("data.superpixels=null", r"(?s)without superpixels.*kind=caa"),
        ("emits=/proc/nowhere", r"/proc/nowhere cannot be written.*emits=DIR"),
        ("learns=/proc/nowhere/cls.ckpt", r"/proc/nowhere cannot be written.*learns=DIR"),
    ],
)
def test_what_would_fail_after_training_fails_before(tree, monkeypatch, override, message):
    with pytest.raises((OSError, ValueError, InstantiationException), match=message):
        train_cls(monkeypatch, tree, override)
    assert not list((tree / "outputs").rglob("*.ckpt"))


@pytest.mark.parametrize("name", ["exports", "overlays"])
def test_files_in_the_place_of_folders_are_told_before_training(tree, monkeypatch, name):
    (tree / "outputs/shapes" / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name} is a file where a folder belongs: remove it"):
        train_cls(monkeypatch, tree)
    assert not list((tree / "outputs").rglob("*.ckpt"))


def test_an_unwritable_output_names_the_setting(tree, monkeypatch):
    (tree / "outputs").rename(tree / "was")
    (tree / "outputs").write_text("a file, not a folder")
    with pytest.raises(
        InterpolationResolutionError, match=r"outputs/shapes cannot be written.*paths\.outputs=DIR"
    ):
        train_cls(monkeypatch, tree)
