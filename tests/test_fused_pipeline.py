"""`python train.py evidence=fused`: from images to a network by two sources of evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers", minversion="5.0")

from front_door import QUICK, run
from text_tools import write_grounding_dino, write_sam3

import infer
import train
from fmawsss.files.json_files import read_json
from fmawsss.files.products import read_record

FUSED = ["superpixels", "cls", "sam3", "sam3_and_coarse_memory", "seg", "sam3_and_fine_memory"]
FEW = QUICK[:3]
SMALL = ["stages.text.model.source.shortest=128", "stages.text.model.source.longest=160"]


def learn(monkeypatch, folder: Path, *words: str) -> Path:
    places = [f"paths.{kind}={folder}/{kind}" for kind in ("data", "outputs", "weights")]
    run(train.main, monkeypatch, *words, "logger=none", "report=none", *places)
    return folder / "outputs" / "shapes"


def list_stamps(work: Path) -> dict[Path, int]:
    """List the products of a run, each with the time when it was written."""
    products = [path for kind in ("*.ckpt", "*/*.npz", "*/*/*.png") for path in work.glob(kind)]
    return {path: path.stat().st_mtime_ns for path in products if "pictures" not in path.parts}


def test_one_command_goes_from_images_to_a_network(tmp_path, monkeypatch) -> None:
    write_sam3(tmp_path / "weights" / "sam3")
    words = [*QUICK, "evidence=fused", "stages.coarse_memory.applying.memory.least=1"]
    phrases = "dataset.phrases={circle:[circle,ring]}"
    work = learn(monkeypatch, tmp_path, *words, phrases)
    assert [*read_json(work / "stages.json")] == [*FUSED, "network"]

    # each learns from what the stage before it made
    seeds = work / "seeds"
    prints = {name: read_record(seeds / name)["fingerprint"] for name in FUSED[3::2]}
    learned = {name: read_record(work / f"{name}.ckpt")["upstream"] for name in ("seg", "network")}
    assert learned["seg"]["seeds"] == prints["sam3_and_coarse_memory"]
    assert learned["network"]["seeds"] == prints["sam3_and_fine_memory"]

    # by hand it is the same product, and nothing is made again
    stamps = list_stamps(work)
    places = [f"paths.{kind}={tmp_path}/{kind}" for kind in ("data", "outputs", "weights")]
    alone = ["task=text", "evidence=sam3", phrases, *FEW[:2], *places]
    run(infer.main, monkeypatch, *alone, "logger=none", "report=none")
    learn(monkeypatch, tmp_path, *words, phrases)
    assert list_stamps(work) == stamps
    assert {*FUSED[2:4]} < {*json.loads((work / "scores.json").read_text())}


@pytest.mark.parametrize(
    ("evidence", "seeds"),
    [
        ("grounding_dino", "grounding_dino_memory"),
        ("fused_grounding_dino", "grounding_dino_and_coarse_memory"),
    ],
)
def test_hand_written_prompts_and_grounding_dino(tmp_path, monkeypatch, evidence, seeds) -> None:
    write_grounding_dino(tmp_path / "weights" / "grounding-dino-base")
    words = [f"evidence={evidence}", "learn=network", "options.steps=2", *FEW, *SMALL]
    work = learn(monkeypatch, tmp_path, *words)
    stages = ["superpixels", "cls", "grounding_dino", seeds, "network"]
    assert [*read_json(work / "stages.json")] == stages
    upstream = read_record(work / "network.ckpt")["upstream"]
    assert upstream["seeds"] == read_record(work / "seeds" / seeds)["fingerprint"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evidence=fused", "memory=none"], "add memory=regions"),
        (["evidence=sam3"], "add learn=network"),
        (["evidence=fused"], r"ask at https://huggingface\.co/facebook/sam3"),
        (["evidence=fused", "dataset.phrases={wheel:[wheel]}"], "'wheel', which is no class"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_made(
    tmp_path, monkeypatch, words, said
) -> None:
    if "wheel" in words[-1]:
        write_sam3(tmp_path / "weights" / "sam3")
    with pytest.raises(Exception, match=said):
        learn(monkeypatch, tmp_path, *QUICK, *words)
    assert not list(tmp_path.glob("outputs/shapes/superpixels/*"))
