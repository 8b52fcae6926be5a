"""The two experiments for photos: what they choose, and that a few photos go through them."""

from __future__ import annotations

import pytest
from front_door import compose_config, run
from test_large_photos import LARGE, photos  # noqa: F401

import train
from fmawsss.files.json_files import read_json
from fmawsss.files.png import read_mask
from stages.config import list_nodes

CHOSEN = {
    "photos_quick": (
        "fmawsss.sam.classic.ClassicSuperpixels",
        "mobilenetv3_large_100.ra_in1k",
    ),
    "photos_good": ("fmawsss.sam.mobile.load_mobile_sam", "convnext_tiny.fb_in22k"),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_no_prompts_are_learned_and_each_names_its_sam(name: str) -> None:
    cfg = compose_config("train", f"experiment={name}", "dataset.root=photos")
    nodes = list_nodes(cfg)
    assert [node.name for node in nodes.values()] == [
        "superpixels", "cls", "coarse_memory", "network",
    ]  # fmt: skip
    network = nodes["stages.network"].learning.network
    assert (cfg.sam._target_, network.encoder) == CHOSEN[name]


def test_the_better_one_sees_more_for_longer() -> None:
    quick, good = (
        compose_config("train", f"experiment={name}", "dataset.root=photos") for name in CHOSEN
    )
    assert quick.dataset.longest < good.dataset.longest
    for stage, key in (("cls", "longest"), ("network", "longest")):
        views = [cfg.stages[stage].prediction.view.resize[key] for cfg in (quick, good)]
        assert views[0] < views[1]
    passes = [cfg.stages.network.runtime.passes.over_images for cfg in (quick, good)]
    assert passes[0] < passes[1]


@pytest.mark.parametrize("name", CHOSEN)
def test_photos_go_through(name, photos, tmp_path, monkeypatch):  # noqa: F811
    words = [f"experiment={name}", f"dataset.root={photos}", "dataset/labels=folders", "clip=tiny"]
    words += ["sam=superpixels_classic", "dataset.longest=200"]  # no weights here
    words += [f"paths.outputs={tmp_path}/o"]
    words += ["stages.network.network.weights=null", "stages.network.loop.max_steps=1"]
    words += ["stages.network.data.batch_size=2", "loading.workers=0", "logger=none", "report=none"]
    run(train.main, monkeypatch, *words)
    work = tmp_path / "o/folder"
    assert [*read_json(work / "stages.json")] == ["superpixels", "cls", "coarse_memory", "network"]
    assert read_mask(work / "masks/ring/b.png").shape == LARGE
