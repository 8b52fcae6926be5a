"""A memory of regions through the front door: in the pipeline, alone, and for bad input."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from front_door import QUICK, run

import infer
import lightning_modules.memory
import train
from benchmarks.memory_ablations import VARIANTS, measure, read_images
from fmawsss.files.journals import read_lines
from fmawsss.files.png import read_mask
from fmawsss.files.products import read_record
from fmawsss.files.regions import find_values, read_regions
from fmawsss.memory import MemoryReader

BARE = ["logger=none", "report=none", "loading.workers=0", *QUICK[:2]]


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A finished pipeline whose memory was not asked yet."""
    shutil.copytree(finished, tmp_path / "copy")
    seeds = tmp_path / "copy" / "outputs" / "shapes" / "seeds"
    shutil.rmtree(seeds / "coarse_memory")
    for beside in seeds.glob("coarse_memory.*"):
        beside.unlink()
    return tmp_path / "copy"


def remember(monkeypatch, folder: Path, *overrides: str) -> None:
    places = [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"]
    run(infer.main, monkeypatch, "task=memory", "memory.least=1", *BARE, *places, *overrides)


def read_masks(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_mask(path) for path in sorted(folder.glob("*.png"))}


def test_the_pipeline_remembers_and_learns_from_it(finished):
    work = finished / "outputs" / "shapes"
    for kind in ("coarse", "fine"):
        assert len(read_masks(work / "seeds" / f"{kind}_memory")) == 6
    upstream = read_record(work / "seg.ckpt")["upstream"]
    assert upstream["seeds"] == read_record(work / "seeds" / "coarse_memory")["fingerprint"]
    scores = json.loads((work / "scores.json").read_text())
    assert any("memory" in key for key in map(str, scores))


def test_the_journal_holds_what_look_alikes_know_of_each_class(copied, monkeypatch):
    remember(monkeypatch, copied)
    lines = read_lines(copied / "outputs" / "shapes" / "seeds" / "coarse_memory").values()
    told = [dict(map(tuple, line["told"])) for line in lines if line.get("told")]
    assert told
    assert all(0 <= value <= 1 for line in told for value in line.values())
    assert all("told" in line for line in lines if line["neighbours"])


def test_the_seeds_before_are_those_of_the_stage_before(finished):
    scores = json.loads((finished / "outputs" / "shapes" / "scores.json").read_text())
    assert scores["coarse_memory"]["train"]["sams"] == scores["cls"]["train"]["sams"]


def test_an_image_with_a_class_of_its_own_keeps_its_seed(copied, monkeypatch, capsys):
    work = copied / "outputs" / "shapes"
    remember(monkeypatch, copied)
    shown = [
        set(read_regions(path).classes.tolist())
        for path in sorted((work / "regions" / "coarse").glob("*.npz"))
    ]
    alone = [n for n, own in enumerate(shown) if own - set().union(*shown[:n], *shown[n + 1 :])]
    assert 0 < len(alone) < len(shown)
    said = f"{len(alone)} images show a class that fewer than 1 other images"
    assert said in capsys.readouterr().out
    before, after = (
        read_masks(work / "seeds" / "coarse"),
        read_masks(work / "seeds" / "coarse_memory"),
    )
    for name in (f"train_{number:05d}" for number in alone):
        np.testing.assert_array_equal(before[name], after[name])


def test_other_images_are_explained_by_those_of_the_training_split(copied, monkeypatch):
    places = [f"paths.data={copied}/data", f"paths.outputs={copied}/outputs"]
    points = "masks.points_per_side=4"
    run(infer.main, monkeypatch, "task=superpixels", "split=val", points, *BARE, *places)
    run(infer.main, monkeypatch, "task=cls", "split=val", "callbacks=regions", *BARE, *places)
    remember(monkeypatch, copied, "split=val")
    masks = read_masks(copied / "outputs" / "shapes" / "seeds" / "coarse_memory")
    assert sorted(masks) == [f"val_{number:05d}" for number in range(3)]


def test_missing_regions_name_the_command(copied, monkeypatch):
    shutil.rmtree(copied / "outputs" / "shapes" / "regions")
    with pytest.raises(FileNotFoundError, match="callbacks=regions"):
        remember(monkeypatch, copied)


def test_regions_of_other_superpixels_are_refused(copied, monkeypatch):
    folder = copied / "outputs" / "shapes" / "regions" / "coarse"
    counts = {path: len(read_regions(path).keys) for path in folder.glob("*.npz")}
    first = min(counts, key=counts.get)
    other = max(counts, key=counts.get)
    assert counts[first] != counts[other]
    shutil.copy(other, first)
    with pytest.raises(ValueError, match=rf"{first.name}.*regions, the image.*superpixels"):
        remember(monkeypatch, copied)


def test_a_file_of_another_run_is_refused(copied, monkeypatch):
    folder = copied / "outputs" / "shapes" / "regions"
    path = sorted((folder / "coarse").glob("*.npz"))[0]
    other = (folder / "fine" / path.name).read_bytes()
    path.write_bytes(other)
    with pytest.raises(ValueError, match=rf"coarse/{path.name} was made with other settings"):
        remember(monkeypatch, copied)


def test_regions_and_keys_of_other_superpixels_are_refused(copied, monkeypatch):
    work = copied / "outputs" / "shapes"
    shutil.copytree(work / "regions" / "coarse", work / "regions" / "other")
    record = json.loads((work / "regions" / "coarse.json").read_text())
    record["upstream"]["superpixels"] = "another"
    (work / "regions" / "other.json").write_text(json.dumps(record))
    other = f"{work}/regions/other"
    with pytest.raises(ValueError, match="other was made with other superpixels than"):
        remember(monkeypatch, copied, f"regions={other}")
    with pytest.raises(ValueError, match="other was made with other superpixels than"):
        remember(monkeypatch, copied, f"keys={other}")


def test_keys_of_another_encoder_are_refused(copied, monkeypatch):
    folder = copied / "outputs" / "shapes" / "regions" / "coarse"
    path = sorted(folder.glob("*.npz"))[1]
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["keys"] = arrays["keys"][:, :-1]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=rf"{path.name} holds keys of length 127, others of 128"):
        remember(monkeypatch, copied)


def test_seeds_of_any_origin_borrow_the_keys(copied, monkeypatch):
    places = [f"paths.data={copied}/data", f"paths.outputs={copied}/outputs"]
    run(infer.main, monkeypatch, "task=cls", "callbacks=cams", *BARE, *places)
    work = copied / "outputs" / "shapes"
    cams = f"cams={work}/cams/coarse"
    run(infer.main, monkeypatch, "task=seeds", "callbacks=regions", cams, *BARE, *places)
    regions = f"regions={work}/regions/from_cams"
    with pytest.raises(ValueError, match="holds no keys"):
        remember(monkeypatch, copied, regions)
    keys = f"keys={work}/regions/coarse"
    remember(monkeypatch, copied, regions, keys)
    assert len(read_masks(work / "seeds" / "from_cams_memory")) == 6


def test_few_images_are_no_memory(finished):
    scores = json.loads((finished / "outputs" / "shapes" / "scores.json").read_text())
    assert scores["coarse_memory"]["train"]["memory"] == scores["cls"]["train"]["sams"]


def test_the_report_shows_why(copied, monkeypatch):
    remember(monkeypatch, copied)
    work = copied / "outputs" / "shapes"
    run(infer.main, monkeypatch, "task=report", f"run={work}")
    lines = list(read_lines(work / "seeds" / "coarse_memory").values())
    told = [line for line in lines if line["neighbours"]]
    assert told
    for line in told:
        own = read_regions(work / "regions" / "coarse" / f"{line['name']}.npz")
        labels = set(own.classes.tolist())
        for name, number, cosine, value in line["neighbours"]["found"]:
            other = read_regions(work / "regions" / "coarse" / f"{name}.npz")
            assert name != line["name"]
            assert labels & set(other.classes.tolist())
            key = own.keys[line["neighbours"]["superpixel"]]
            assert float(key @ other.keys[number]) == pytest.approx(cosine, abs=2e-3)
            values = find_values(other, 8)[number]
            assert values[value].item() == pytest.approx(values.max().item(), abs=1e-3)
    page = (work / "report.html").read_text()
    section = page[page.index(">Memory</h2>") :]
    assert f"{told[0]['name']}: " in section[: section.index("</section>")]


def test_the_confidence_of_a_memory_weighs_seeds(copied, monkeypatch):
    remember(monkeypatch, copied, "callbacks=seed_confidence")
    seeds = copied / "outputs" / "shapes" / "seeds"
    assert len(list((seeds / "coarse_memory_confidence").glob("*.png"))) == 6
    places = [f"paths.data={copied}/data", f"paths.outputs={copied}/learned", "loop.max_steps=1"]
    words = ["task=network", "targets=weighted", f"seeds={seeds}/coarse_memory", "save_every=1"]
    run(train.main, monkeypatch, *words, *BARE, *places)
    assert (copied / "learned" / "shapes" / "network.ckpt").is_file()

    # and, with the outlines of superpixels, smooths answers within them
    words = ["task=network", "targets=edges", "targets.make.radius=1", *words[2:]]
    missing = f"{copied}/learned/shapes/superpixels, first"
    with pytest.raises(FileNotFoundError, match="superpixels are missing in " + missing):
        run(train.main, monkeypatch, *words, *BARE, *places, f"paths.work={copied}/edges")
    base = [f"paths.base={copied}/outputs/shapes", f"paths.work={copied}/edges"]
    run(train.main, monkeypatch, *words, *BARE, *places, *base)
    learned = [
        torch.load(copied / place / "network.ckpt", weights_only=True)["state_dict"]
        for place in ("learned/shapes", "edges")
    ]
    assert any(not torch.equal(a, b) for a, b in zip(*(s.values() for s in learned), strict=True))


def test_variants_are_scored_as_the_memory_scores(copied, monkeypatch):
    remember(monkeypatch, copied)
    (copied / "0").mkdir()
    (copied / "0" / "data").symlink_to(copied / "data")
    (copied / "0" / "shapes").symlink_to(copied / "outputs" / "shapes")
    images = read_images(copied / "0", 0, "coarse")
    scores = json.loads((copied / "outputs/shapes/scores.json").read_text())["coarse_memory"]
    alone, _ = measure(images, *VARIANTS["SAMS alone"])
    told, error = measure(images, MemoryReader(least=1), lambda image: image.keys, filtered=True)
    assert alone == pytest.approx(scores["train"]["sams"]["miou"], abs=1e-6)
    assert told == pytest.approx(scores["train"]["memory"]["miou"], abs=1e-6)
    assert alone != told
    assert 0 <= error <= 1


def test_images_together_get_the_seeds_of_each_alone(copied, monkeypatch):
    remember(monkeypatch, copied, "memory.block=3", "overwrite=true")
    seeds = copied / "outputs" / "shapes" / "seeds" / "coarse_memory"
    together = read_masks(seeds)

    def find_plainly(questions, memory, reader, block):
        return [reader.find(q.keys, q.labels, memory, q.image) for q in questions]

    monkeypatch.setattr(lightning_modules.memory, "find_together", find_plainly)
    remember(monkeypatch, copied, "overwrite=true")
    alone = read_masks(seeds)
    assert together.keys() == alone.keys()
    for name, mask in together.items():
        np.testing.assert_array_equal(mask, alone[name])


def test_a_block_is_no_part_of_what_seeds_depend_on(copied, monkeypatch, capsys):
    remember(monkeypatch, copied)
    remember(monkeypatch, copied, "memory.block=3")
    assert "complete for train, skipped" in capsys.readouterr().out


def test_a_large_memory_asks_an_index(copied, monkeypatch):
    pytest.importorskip("faiss")
    remember(monkeypatch, copied, "memory.exact_up_to=0", "overwrite=true")
    assert len(read_masks(copied / "outputs" / "shapes" / "seeds" / "coarse_memory")) == 6


def test_an_index_without_faiss_says_what_to_install(copied, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ModuleNotFoundError, match=r"\[index\].*memory\.exact_up_to=null"):
        remember(monkeypatch, copied, "memory.exact_up_to=0", "overwrite=true")
    remember(monkeypatch, copied, "memory.exact_up_to=null", "overwrite=true")


def test_images_without_a_superpixel_keep_their_seeds(tmp_path, monkeypatch):
    places = [f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs"]
    none = [*BARE, *places, "masks.iou_offsets=[-1.0,-1.0,-1.0]"]
    run(infer.main, monkeypatch, "task=superpixels", *none)
    run(train.main, monkeypatch, "task=cls", "prompts=handwritten", *BARE, *places)
    remember(monkeypatch, tmp_path)
    seeds = tmp_path / "outputs" / "shapes" / "seeds"
    before, after = (read_masks(seeds / name) for name in ("coarse", "coarse_memory"))
    assert len(before) == len(after) == 6
    assert all((before[name] == after[name]).all() for name in before)
