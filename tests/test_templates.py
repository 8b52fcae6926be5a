"""Training-free baselines in the manner of CLIP-ES: ranked, fused and averaged templates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from front_door import run
from PIL import Image

import infer
import train
from fmawsss.templates import rank_templates, read_sharpest

QUICK = ["dataset.train_images=8", "dataset.val_images=1"]
CAMS_ONLY = ["task=cls", "data.superpixels=null", "writers.seeds.kind=caa"]


def places(folder: Path) -> list[str]:
    return [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"]


def test_templates_are_ranked_and_the_first_is_used(tmp_path, monkeypatch):
    command = ["task=templates", *QUICK, *places(tmp_path)]
    run(infer.main, monkeypatch, *command)
    work = tmp_path / "outputs/shapes"
    ranking = json.loads((work / "templates.json").read_text())
    assert len(ranking) == 12
    assert list(ranking.values()) == sorted(ranking.values())
    assert read_sharpest(str(work / "templates.json")) == [next(iter(ranking))]

    # killed after three images, one of them half written: the same ranking
    (work / "templates.jsonl.files.jsonl").unlink()  # noted when it is complete
    lines = (work / "templates.jsonl").read_text().splitlines()
    (work / "templates.jsonl").write_text("\n".join([*lines[:3], lines[3][:20]]) + "\n")
    (work / "templates.json").unlink()
    run(infer.main, monkeypatch, *command)
    assert json.loads((work / "templates.json").read_text()) == pytest.approx(ranking)

    # the chosen template makes the seeds that naming it makes
    chosen = [
        "prompts=handwritten",
        f"prompts.templates=['{next(iter(ranking))}']",
        f"paths.work={tmp_path}/named",
    ]
    run(
        train.main,
        monkeypatch,
        *CAMS_ONLY,
        *QUICK,
        *places(tmp_path),
        "prompts=handwritten_sharpest",
    )
    run(train.main, monkeypatch, *CAMS_ONLY, *QUICK, *places(tmp_path), *chosen)
    for path in (work / "seeds/coarse").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "named/seeds/coarse" / path.name).read_bytes()


def test_a_missing_ranking_names_its_command(tmp_path, monkeypatch):
    with pytest.raises(Exception, match=r"infer\.py task=templates"):
        run(
            train.main,
            monkeypatch,
            *CAMS_ONLY,
            *QUICK,
            *places(tmp_path),
            "prompts=handwritten_sharpest",
        )


@pytest.mark.parametrize("prompts", ["handwritten_ensemble", "handwritten_synonyms"])
def test_ensembles_and_synonyms_make_seeds(tmp_path, monkeypatch, prompts):
    names = "dataset.prompt_names=['circle,disc',square,triangle,star,ring,cross,heart,moon]"
    run(
        train.main,
        monkeypatch,
        *CAMS_ONLY,
        *QUICK,
        *places(tmp_path),
        f"prompts={prompts}",
        names,
    )
    seeds = list((tmp_path / "outputs/shapes/seeds/coarse").glob("*.png"))
    assert len(seeds) == 8
    assert any(Image.open(path).getextrema()[1] > 0 for path in seeds)


def test_the_evenest_template_comes_first():
    even, uneven = torch.tensor([20.0, 20.5]), torch.tensor([10.0, 30.0])
    images = [
        torch.stack([uneven, even]),
        torch.tensor([[7.0], [9.0]]),
    ]  # an image of one class says nothing
    ranking = rank_templates(["uneven", "even"], images)
    assert list(ranking) == ["even", "uneven"]
    assert ranking["uneven"] == pytest.approx(100 / 20, rel=1e-5)
    with pytest.raises(ValueError, match="two classes"):
        rank_templates(["a", "b"], images[1:])
