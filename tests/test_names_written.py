"""Names of classes, written where other programs and people read them, are read back."""

from __future__ import annotations

import gc
import io
import json
import subprocess
from contextlib import redirect_stdout
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from fake_trees import draw_image, write_mask
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from name_tools import few, names
from network_tools import CARRIED

from fmawsss.files.texts import check_class_names, compose, guard_cell, unguard_cell
from fmawsss.networks.checkpoints import describe_classes, read_checkpoint
from fmawsss.networks.onnx import describe_checkpoint
from stages.demo.page import build_page
from stages.exports.masks import MaskSet, VocTree
from stages.exports.regions import CocoAnnotations, YoloLabels
from stages.jobs.tables import show_table
from stages.pages import render
from stages.typed import quote_setting

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)


def accepts(name: str) -> bool:
    """Say whether a class may have a name."""
    try:
        check_class_names([name, "dog"])
    except ValueError:
        return False
    return name != "dog"


classes = names.filter(accepts)


@few(60)
@given(classes)
def test_checkpoints_and_onnx_files_name_their_classes(tmp_path: Path, name: str) -> None:
    resize = {"_target_": "fmawsss.resizing.KeepSize"}
    carried = {**CARRIED, "resize": resize, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    content = {**describe_classes([name, "dog"]), "carried": carried, "config": {}}
    torch.save({**content, "state_dict": {}}, tmp_path / "network.ckpt")
    read = read_checkpoint(tmp_path / "network.ckpt")
    assert list(read.classes) == [name, "dog"]

    # the metadata of an ONNX file
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "empty", [], [])
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, describe_checkpoint(read))
    onnx.save(model, tmp_path / "network.onnx")
    found = {p.key: p.value for p in onnx.load(tmp_path / "network.onnx").metadata_props}
    assert json.loads(found["classes"]) == ["background", name, "dog"]


@few(60)
@given(classes)
def test_terminal_and_html_show_the_name(name: str) -> None:
    with redirect_stdout(io.StringIO()) as shown:
        show_table("classes", ("value", "name"), [[1, name]])
    assert f" {name} " in shown.getvalue()

    texts: list[str] = []
    parser = HTMLParser()
    parser.handle_data = texts.append  # type: ignore[method-assign]
    parser.feed(render("files.html.j2", files=[(name, name)]))
    parser.close()
    assert name in "".join(texts)


@few(40)
@given(classes)
def test_yolo_coco_and_voc_name_the_class(tmp_path: Path, name: str) -> None:
    write_mask(tmp_path / "a.png", draw_image(0, (8, 9))[..., 0] % 3)
    (tmp_path / "a.jpg").touch()
    masks = MaskSet(tmp_path, {"a": tmp_path / "a.jpg"}, [name, "dog"], "all")
    for export in (YoloLabels, CocoAnnotations, VocTree):
        export(tmp_path / "out")(masks)
    text = (tmp_path / "out/data.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["names"] == [name, "dog"]
    listed = (tmp_path / "out/class_names.txt").read_text(encoding="utf-8").split("\n")
    assert listed == ["background", name, "dog", ""]
    coco = json.loads((tmp_path / "out/instances_rle.json").read_text(encoding="utf-8"))
    assert [category["name"] for category in coco["categories"]] == [name, "dog"]


@pytest.mark.filterwarnings("ignore")  # Gradio leaves event loops open
@few(20)
@given(classes)
def test_the_demo_page_names_its_classes(tmp_path: Path, name: str) -> None:
    """Choices and the note are text; what fails is escaped, for Gradio shows it as HTML."""
    gradio = pytest.importorskip("gradio")

    def fail(image: None, labels: list[str], prompts: str, photo: str) -> None:
        assert labels == ["dog", *([compose(name)] if name != "dog" else [])]
        raise ValueError(f"class {name}")

    analyst = SimpleNamespace(
        classes=[name, "dog"], prompts=["own"], note=f"Not trained: {name}", folder=tmp_path,
        analyse=fail, list_examples=list,
    )  # fmt: skip
    page = build_page(gradio, analyst, 1)
    parts = {part["type"]: part["props"] for part in page.get_config_file()["components"]}
    assert [tuple(choice) for choice in parts["checkboxgroup"]["choices"]] == [
        (name, name),
        ("dog", "dog"),
    ]
    texts = [block.value for block in page.blocks.values() if isinstance(block, gradio.Textbox)]
    assert f"Not trained: {name}" in texts

    # what is typed, and what is said of it
    if ";" not in name:
        (click,) = [f.fn for f in page.fns.values() if f.api_name == "segment"]
        with pytest.raises(gradio.Error) as error:
            click(None, ["dog"], f" {name} ", "own", 0.5)
        assert "<" not in error.value.message
        assert unescape(error.value.message) == f"class {name}"
    del page
    gc.collect()  # they complain here, and not in a later test


@few(30)
@given(names)
def test_a_posix_shell_reads_a_printed_setting(name: str) -> None:
    command = f"printf %s {quote_setting('dataset.root', name)}"
    printed = subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout
    assert OverridesParser.create().parse_override(printed.decode()).value() == name


@few(60)
@given(names)
def test_a_guarded_cell_is_no_formula_and_is_read_back(name: str) -> None:
    written = guard_cell(name)
    assert not written.startswith(("=", "+", "-", "@")) or float(written) < 0
    assert unguard_cell(guard_cell(name)) == name
