"""`python infer.py task=text`: from images and phrases to seeds, and on to a region memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", minversion="5.0")

from front_door import run
from text_tools import write_grounding_dino, write_sam3

import infer
from fmawsss.files.journals import read_lines
from fmawsss.files.png import read_mask
from fmawsss.files.products import ProductMismatch
from fmawsss.files.regions import read_regions
from fmawsss.text_prompted.maps import Found
from fmawsss.text_prompted.sam3 import Sam3Source

QUICK = [
    "dataset.train_images=5", "dataset.val_images=2", "logger=none", "report=none",
    "loading.workers=0",
]  # fmt: skip
ALL = [f"train_{number:05}" for number in range(5)]
SMALL = ["module.source.shortest=128", "module.source.longest=160"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Superpixels, hand-written prompts and both text-prompted sources of some images."""
    folder = tmp_path_factory.mktemp("text")
    write_sam3(folder / "weights" / "sam3")
    write_grounding_dino(folder / "weights" / "grounding-dino-base")
    with pytest.MonkeyPatch.context() as patch:
        apply(patch, folder, "task=superpixels", "masks.points_per_side=4")
        apply(patch, folder, "task=cls", "learn=network")
        apply(patch, folder, "task=text", "evidence=sam3")
        apply(patch, folder, "task=text", "evidence=grounding_dino", *SMALL)
    return folder


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def apply(monkeypatch, folder: Path, *words: str) -> None:
    places = [f"paths.{kind}={folder}/{kind}" for kind in ("data", "outputs", "weights")]
    run(infer.main, monkeypatch, *words, *QUICK, *places)


def work_of(folder: Path) -> Path:
    return folder / "outputs" / "shapes"


def test_seeds_show_present_classes_only(finished) -> None:
    for source in ("sam3", "grounding_dino"):
        lines = read_lines(work_of(finished) / "seeds" / source)
        for name in ALL:
            mask = read_mask(work_of(finished) / "seeds" / source / f"{name}.png")
            present = {int(number) + 1 for number, *_ in lines[name]["objects"]}
            assert {*np.unique(mask)} <= {0, *present}
            assert [*lines[name]["regions"]] == ["text"]


def test_regions_hold_the_mean_of_the_maps(finished) -> None:
    """Of each superpixel: the mean of each class's map, and 1 - their maximum first."""
    for source in ("sam3", "grounding_dino"):
        for name in ALL:
            regions = read_regions(work_of(finished) / "regions" / source / f"{name}.npz")
            assert regions.keys is None
            assert regions.scores[1:].amax(0).le(1).all()
            torch.testing.assert_close(regions.scores[0], 1 - regions.scores[1:].amax(0))


def test_a_finished_source_is_skipped_and_goes_on_where_it_stopped(copied, monkeypatch) -> None:
    seeds, regions = work_of(copied) / "seeds/sam3", work_of(copied) / "regions/sam3"
    before = {path.name: path.read_bytes() for path in seeds.iterdir()}
    (seeds / f"{ALL[1]}.png").unlink()
    (regions / f"{ALL[2]}.npz").unlink()
    stamps = {path.name: path.stat().st_mtime_ns for path in seeds.iterdir()}
    apply(monkeypatch, copied, "task=text", "evidence=sam3")
    assert {path.name: path.read_bytes() for path in seeds.iterdir()} == before
    assert (regions / f"{ALL[2]}.npz").is_file()
    assert stamps[f"{ALL[0]}.png"] == (seeds / f"{ALL[0]}.png").stat().st_mtime_ns


def test_shards_together_make_the_seeds(copied, monkeypatch) -> None:
    work = [f"paths.work={copied}/apart", f"data.superpixels={work_of(copied)}/superpixels"]
    for shard in ("1/2", "2/2"):
        apply(monkeypatch, copied, "task=text", "evidence=sam3", f"shard={shard}", *work)
    for name in ALL:
        made, expected = copied / "apart", work_of(copied)
        file = f"seeds/sam3/{name}.png"
        assert (made / file).read_bytes() == (expected / file).read_bytes()


def test_other_phrases_make_other_seeds(copied, monkeypatch) -> None:
    words = ["task=text", "evidence=sam3", "dataset.phrases={circle:[circle,ring],moon:[a moon]}"]
    with pytest.raises(ProductMismatch, match="overwrite=true"):
        apply(monkeypatch, copied, *words)
    apply(monkeypatch, copied, *words, "overwrite=true")


def test_answers_that_are_no_numbers_are_refused_by_name(copied, monkeypatch) -> None:
    build = Found.__init__

    def spoil(found, masks, scores, boxes, semantic):
        build(found, masks, scores, boxes, None if semantic is None else semantic * float("nan"))

    monkeypatch.setattr(Found, "__init__", spoil)
    with pytest.raises(ValueError, match=r"what the model says of train_0000\d is no number"):
        apply(monkeypatch, copied, "task=text", "evidence=sam3", "overwrite=true")


def test_an_image_without_classes_is_background_and_asks_nothing(copied, monkeypatch) -> None:
    for path in sorted((copied / "data/shapes-0/Annotations").glob("train_00002.xml")):
        text = path.read_text()
        path.write_text(text[: text.index("<object>")] + "</annotation>")
    asked: list[int] = []
    find = Sam3Source.find
    monkeypatch.setattr(
        Sam3Source, "find", lambda own, *given: asked.append(len(given[1])) or find(own, *given)
    )
    apply(monkeypatch, copied, "task=text", "evidence=sam3", "overwrite=true")
    assert len(asked) == len(ALL) - 1
    assert 0 not in asked
    assert not read_mask(work_of(copied) / f"seeds/sam3/{ALL[2]}.png").any()


def test_other_weights_make_other_seeds(copied, monkeypatch) -> None:
    write_sam3(copied / "weights/sam3", seed=1)
    with pytest.raises(ProductMismatch, match=r"weights: .*\n.*overwrite=true"):
        apply(monkeypatch, copied, "task=text", "evidence=sam3")


@pytest.mark.parametrize("source", ["sam3", "grounding_dino"])
def test_a_memory_takes_the_scores_of_a_source(copied, monkeypatch, source) -> None:
    apply(monkeypatch, copied, "task=memory", f"evidence={source}", "memory.least=1")
    scores = json.loads((work_of(copied) / "scores.json").read_text())
    assert {*scores[f"{source}_memory"]["train"]} >= {"sams", "memory"}
    assert scores[f"{source}_memory"]["train"]["sams"] == scores[source]["train"]["sams"]


def test_fused_is_the_mean_of_both(copied, monkeypatch) -> None:
    """With neighbours that do not count, each superpixel takes the best of its two mean scores."""
    apply(monkeypatch, copied, "task=memory", "evidence=fused", "memory.least=1")
    made = work_of(copied) / "seeds/sam3_and_coarse_memory"
    assert len(list(made.glob("*.png"))) == len(ALL)
    own = ["memory.own_share=1", "memory.least=1", "overwrite=true"]
    apply(monkeypatch, copied, "task=memory", "evidence=fused", *own)
    tops = []
    for name in ALL:
        kept = [
            read_regions(work_of(copied) / f"regions/{at}/{name}.npz") for at in ("sam3", "coarse")
        ]
        values = [regions.scores / regions.scores.sum(0) for regions in kept]
        best = (values[0] + values[1]).argmax(0)
        labels = torch.cat([torch.zeros(1, dtype=torch.long), kept[0].classes + 1])[best]
        found = {*np.unique(read_mask(made / f"{name}.png")).tolist()}
        tops.append(found - {*labels.tolist(), *kept[0].rest.tolist()})
    assert not any(tops)


def test_what_is_of_other_superpixels_is_not_averaged(copied, monkeypatch) -> None:
    path = work_of(copied) / f"regions/coarse/{ALL[0]}.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, "classes": arrays["classes"][::-1] + 1})
    with pytest.raises(ValueError, match=rf"{ALL[0]}\.npz cannot be averaged.*other superpixels"):
        apply(monkeypatch, copied, "task=memory", "evidence=fused", "memory.least=1")


def test_a_source_without_weights_says_so_and_leaves_the_others(copied, monkeypatch) -> None:
    shutil.rmtree(copied / "weights/sam3")
    with pytest.raises(Exception, match=r"ask at https://huggingface.co/facebook/sam3"):
        apply(monkeypatch, copied, "task=text", "evidence=sam3", f"paths.work={copied}/new")
    assert not (copied / "new/seeds").exists()
    apply(monkeypatch, copied, "task=text", "evidence=grounding_dino", *SMALL)
    apply(monkeypatch, copied, "task=memory", "evidence=sam3", "memory.least=1")  # of what is there


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset.phrases={wheel:[wheel]}"], "'wheel', which is no class"),
        (["dataset.phrases={circle:[]}"], "circle has no phrase"),
        (["dataset.phrases={circle:[a a a a a a a a]}"], "SAM 3 reads 8"),
        (["dataset.phrases=circle"], "expected classes with lists"),
        (["module.source.least_score=2"], "least_score=2"),
        (["evidence=fused"], "evidence=fused is none"),
    ],
)
def test_words_that_do_not_fit_are_refused(finished, tmp_path, monkeypatch, words, said) -> None:
    place = f"paths.work={tmp_path}/new"
    with pytest.raises(Exception, match=said):
        apply(monkeypatch, finished, "task=text", "evidence=sam3", place, "memory=none", *words)
    assert not (tmp_path / "new" / "seeds").exists()


def test_dots_are_refused_for_grounding_dino_only(finished, tmp_path, monkeypatch) -> None:
    words = ["task=text", "memory=none", 'dataset.phrases={circle:["a circle."]}']
    with pytest.raises(ValueError, match=r"reads 'a circle\.' as several"):
        apply(monkeypatch, finished, *words, "evidence=grounding_dino", f"paths.work={tmp_path}/a")
    apply(monkeypatch, finished, *words, "evidence=sam3", f"paths.work={tmp_path}/a")
