"""What a product depends on is said: a new key outside `runtime` makes it stale, one inside not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from front_door import compose_config
from omegaconf import DictConfig, OmegaConf

from fmawsss.files.fingerprints import fingerprint
from stages.builder import StageBuilder
from stages.config import list_nodes
from stages.identity import identify_checkpoint, identify_output

TASKS = ("superpixels", "cls", "seg", "network", "seeds", "labels", "templates")
DATASETS = ("voc", "coco", "folder", "shapes")
NEEDED = {"seeds": ["cams=cams"]}
PRODUCTS = {
    "model": {"checkpoint", "output"},
    "learning": {"checkpoint"},
    "training": {"checkpoint"},
    "applying": {"output"},
    "prediction": {"output"},
    "writers": {"output"},
    "runtime": set(),
}


def compose_task(task: str, dataset: str) -> DictConfig:
    root = ["dataset.root=photos"] if dataset == "folder" else []
    if task.endswith("_memory"):
        root += [f"regions=outputs/regions/{task.removesuffix('_memory')}"]
        task = "memory"
    return compose_config(
        "infer", f"task={task}", f"dataset={dataset}", *root, *NEEDED.get(task, ())
    )


def make_builder(cfg: DictConfig) -> StageBuilder:
    ((place, node),) = list_nodes(cfg).items()
    return build_builder(cfg, place, node)


def build_builder(cfg: DictConfig, place: str, node: DictConfig) -> StageBuilder:
    run = SimpleNamespace(seed=cfg.seed, cache=None, precision="32-true")
    return StageBuilder(cfg, place, node, run, True)


def find_prints(builder: StageBuilder, sections: dict[str, Any]) -> dict[str, str]:
    """Return the fingerprints of checkpoint and output as the sections of the stage say them."""
    data = SimpleNamespace(classes=("cat",), prompt_names=("cat",), training=None, whole=None)
    found = {"output": fingerprint(identify_output(sections, data, builder.run))}
    if sections["training"]["view"] is not None:
        found["checkpoint"] = fingerprint(identify_checkpoint(sections, data, builder.run))
    return found


def print_config(cfg: DictConfig) -> dict[str, str]:
    builder = make_builder(cfg)
    return find_prints(builder, builder.read_sections())


def list_mappings(node: Any) -> Iterator[dict[str, Any]]:
    """List a mapping and all mappings below it."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict):
        yield node
    for child in list(children):
        yield from list_mappings(child)


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("task", TASKS)
def test_a_new_key_makes_stale_what_depends_on_its_section(task: str, dataset: str) -> None:
    builder = make_builder(compose_task(task, dataset))
    sections = builder.read_sections()
    assert set(sections) == {*PRODUCTS, "name", "labelled", "takes", "carried"}
    before = find_prints(builder, sections)
    for section, products in PRODUCTS.items():
        for mapping in list_mappings(sections[section]):
            mapping["new_key"] = 1
            after = find_prints(builder, sections)
            del mapping["new_key"]
            changed = {product for product in before if before[product] != after[product]}
            assert changed == products & set(before), (section, mapping)
    assert find_prints(builder, sections) == before


@pytest.mark.parametrize("task", TASKS)
def test_moved_folders_make_nothing_stale(task: str) -> None:
    here, there = compose_task(task, "voc"), compose_task(task, "voc")
    there.paths.outputs, there.paths.data, there.paths.weights = "/a", "/b", "/c"
    assert print_config(here) == print_config(there)


@pytest.mark.parametrize("dataset", DATASETS)
def test_stages_of_a_pipeline_make_what_they_make_alone(dataset: str) -> None:
    root = ["dataset.root=photos"] if dataset == "folder" else []
    cfg = compose_config("train", f"dataset={dataset}", *root)
    for place, node in list_nodes(cfg).items():
        builder = build_builder(cfg, place, node)
        found = find_prints(builder, builder.read_sections())
        assert found == print_config(compose_task(node.name, dataset)), node.name


def test_inputs_in_any_folder_make_nothing_stale() -> None:
    here, there = compose_task("cls", "voc"), compose_task("cls", "voc")
    there.stage.prediction.inputs.superpixels = "/elsewhere/superpixels"
    assert print_config(here) == print_config(there)
    there.stage.prediction.inputs.superpixels = None
    assert print_config(here)["output"] != print_config(there)["output"]


def test_an_output_counts_wherever_it_lies(tmp_path: Path) -> None:
    words, table = ["infer", "task=labels", "dataset=voc"], tmp_path / "labels.csv"
    before = print_config(compose_config(*words))
    assert print_config(compose_config(*words, f"emits={table}")) == before
    table.touch()
    assert print_config(compose_config(*words, f"emits={table}")) == before


def test_a_file_that_a_setting_names_counts_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "templates.json"
    words = ["task=cls", "dataset=voc", "prompts=handwritten_sharpest"]
    file.write_text("{}")
    first, second = (compose_config("infer", *words, f"paths.base={tmp_path}") for _ in range(2))
    before = print_config(first)
    assert print_config(second) == before
    file.write_text('{"a": 1}')
    assert print_config(second) != before


def test_a_section_that_no_stage_has_is_refused() -> None:
    cfg = compose_task("cls", "voc")
    OmegaConf.update(cfg, "stage.lerning", {"lr": 1}, force_add=True)
    with pytest.raises(ValueError, match="stage has no lerning"):
        list_nodes(cfg)
