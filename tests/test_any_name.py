"""Names are data: any text is kept as it is from file to file, or refused with the reason."""

from __future__ import annotations

import shlex
import shutil
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fake_trees import draw_image, write_jpeg, write_mask
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from name_tools import both_forms, few, names, write_labels
from omegaconf import OmegaConf

from datamodules.folder import FolderDataModule
from datamodules.label_files import LabelsFromFile
from fmawsss.files.texts import check_class_names, compose
from stages.exports.labelstudio import LabelStudioTasks
from stages.exports.masks import CvatMasks, MaskSet
from stages.sweeps.best import build_experiment
from stages.typed import quote_setting, write_setting, write_yaml


@few(60)
@given(names)
def test_a_setting_of_any_text_is_pasted_back(name: str) -> None:
    (word,) = shlex.split(quote_setting("dataset.root", name))
    assert OverridesParser.create().parse_override(word).value() == name


@few(60)
@given(names)
def test_the_best_settings_are_the_same_text_again(name: str) -> None:
    chosen = dict([write_setting("model.phrase", name).split("=", 1)])
    text = write_yaml(build_experiment(chosen, ()))
    assert OmegaConf.to_container(OmegaConf.create(text)) == {"model": {"phrase": name}}


@few(60)
@given(names, both_forms)
def test_labels_of_any_image_are_found(tmp_path: Path, label: str, name: str) -> None:
    """Either the image has its label, or the reason names the file, the line or the class."""
    root = tmp_path / "photos"
    shutil.rmtree(root, ignore_errors=True)
    try:
        write_jpeg(root / f"{name}.jpg", draw_image(0, (24, 40)))
    except OSError:  # longer than the file system allows
        return
    write_labels(tmp_path / "labels.csv", {compose(name): [label]})
    try:
        labels = LabelsFromFile(tmp_path / "labels.csv")
        module = FolderDataModule(
            root=root, frames=root, frame_step=1, masks=None, classes=None, labels=labels,
            labelled=True,
        )  # fmt: skip
        (record,) = module.read_records("all")
    except ValueError as error:
        reason = str(error)
    else:
        reason = ""
    if reason:
        said = ("rename", "no name of a class", "no class covers", "holds no image", "255", "zero")
        assert any(word in reason for word in (*said, "names no", "take")), reason
        return
    assert record.name == name
    assert record.labels is not None
    found = sorted(module.classes[index] for index in record.labels)
    assert found == sorted({compose(part.strip()) for part in label.split(";") if part.strip()})


@few(40)
@given(names)
def test_class_names_are_read_back_by_other_tools(tmp_path: Path, name: str) -> None:
    try:
        check_class_names([name, "dog"])
    except ValueError:
        return
    write_mask(tmp_path / "a.png", draw_image(0, (8, 9))[..., 0] % 3)
    masks = MaskSet(tmp_path, {"a": tmp_path / "a.jpg"}, [name, "dog"], "all")
    studio, cvat = LabelStudioTasks(tmp_path / "ls", ""), CvatMasks(tmp_path / "cvat.zip")
    studio(masks)
    tree = ElementTree.parse(tmp_path / "ls/labels.xml")
    assert [label.get("value") for label in tree.iter("Label")] == [name, "dog"]

    # CVAT's reader splits lines at colons and leaves out those with `#` in front
    if ":" in name or name.startswith("#"):
        with pytest.raises(ValueError, match="label map"):
            cvat.check(masks)
        return
    cvat(masks)
    with zipfile.ZipFile(tmp_path / "cvat.zip") as archive:
        lines = archive.read("labelmap.txt").decode().split("\n")[1:-1]
    assert [line.split(":")[0] for line in lines] == ["background", name, "dog"]
