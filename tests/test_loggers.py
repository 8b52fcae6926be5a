"""Every logger gets the same scalars, and pictures where it can; W&B works offline."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from front_door import run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import infer
import train
from benchmarks import dashboard_picture
from benchmarks.wandb_file import (
    list_artifacts,
    read_config,
    read_history,
    read_records,
    read_run,
    read_summary,
)
from fmawsss.files.images import read_image

QUICK = [
    "task=cls",
    "dataset.train_images=3",
    "dataset.val_images=1",
    "prompts=foreground",
    "data.superpixels=null",
    "writers.seeds.kind=caa",
    "dataset.prompt_names=[disc,box,wedge,star,ring,plus,heart,crescent]",
]
SCALARS = {
    "train/loss",
    "train/lr",
    "train/gradient_norm",
    "train/images_per_second",
    "train/memory_gb",
    "val/miou_power_5",
    "val/iou_power_5/circle",
    "scores/train/caa/miou",
    "scores/train/caa/iou/background",
}


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A stage learned with all loggers at once; the folder of its run."""
    folder = tmp_path_factory.mktemp("loggers")
    learning = ["loop.max_steps=2", "save_every=2", "val_every=1", "data.val_split=val"]
    learning.append("trainer.log_every_n_steps=1")
    places = [f"paths.data={folder}/data", f"paths.outputs={folder}/outputs"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_API_KEY", raising=False)
        run(train.main, patch, *QUICK, *learning, *places, "logger=[csv,tensorboard,wandb]")
    return next((folder / "outputs/shapes/runs").iterdir())


def name_config(run: Path) -> str:
    return f"{run.name}-config.yaml"


def read_wandb(folder: Path) -> list:
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return read_records(path)


def test_csv_has_every_scalar(logged):
    with (logged / "cls/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = {key for row in rows for key, value in row.items() if value}
    assert known >= SCALARS - {"val/iou_power_5/circle", "scores/train/caa/iou/background"}
    assert set(rows[0]) >= SCALARS


def test_the_validations_of_prompts_are_in_the_table_of_scores(logged):
    work = logged.parents[1]
    lines = [
        json.loads(line) for line in (work / "cls.ckpt.validations.jsonl").read_text().splitlines()
    ]
    assert [(line["step"], line["kind"]) for line in lines] == [
        (s, f"power {p}") for s in (1, 2) for p in (5, 10)
    ]
    during = json.loads((work / "scores.json").read_text())["cls"]["val during training"]
    for power in (5, 10):
        own = {
            line["step"]: line["scores"]["miou"]
            for line in lines
            if line["kind"] == f"power {power}"
        }
        best = max(own, key=own.__getitem__)
        assert during[f"power {power}, last, step 2"]["miou"] == own[2]
        assert during[f"power {power}, best, step {best}"]["miou"] == own[best]


def test_the_report_draws_what_csv_has(logged):
    page = (logged.parents[1] / "report.html").read_text()
    for curve in ("loss", "learning rate", "gradient norm", "images per second", "validation mIoU"):
        assert f'aria-label="{curve} of cls, steps 0 to 1' in page


def test_a_class_has_one_name_in_all_scores(logged):
    """Other names stand in prompts, as VOC's `person with clothes,people,human`."""
    names = {"background", "circle", "square", "triangle", "star", "ring", "cross", "heart", "moon"}
    stages = json.loads((logged.parents[1] / "scores.json").read_text())
    splits = stages["cls"].values()
    tables = [
        score[key] for kinds in splits for score in kinds.values() for key in ("iou", "recall")
    ]
    assert [set(table) for table in tables] == [names] * 12  # two and four kinds

    # scalars, wherever they are logged
    with (logged / "cls/metrics.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    tags = EventAccumulator(str(logged / "cls")).Reload().Tags()["scalars"]
    for keys in (columns, tags, read_history(read_wandb(logged))):
        assert {key.rpartition("/")[2] for key in keys if "/iou" in key} <= names


def test_tensorboard_has_every_scalar_and_pictures(logged):
    events = EventAccumulator(str(logged / "cls")).Reload()
    assert SCALARS - {"val/iou_power_5/circle"} <= set(events.Tags()["scalars"])
    assert {"pictures", "panels", "worst", "most uncertain", "confusion"} <= set(
        events.Tags()["images"]
    )


def test_wandb_has_every_scalar(logged):
    records = read_wandb(logged)
    history, summary = read_history(records), read_summary(records)
    final = {key for key in SCALARS if key.startswith("scores/")}
    assert set(history) >= SCALARS - final
    assert len(history["train/loss"]) == 2

    # final scores are no charts of one point
    assert set(summary) >= final
    assert not any(key.startswith("scores/") for key in history)


def test_a_wandb_run_says_what_it_is(logged):
    found = read_run(read_wandb(logged))
    assert found.display_name.startswith(
        "cls prompts=foreground superpixels=null kind=caa max_steps"
    )
    assert found.run_group == str(logged)
    assert found.job_type == "cls"
    assert found.tags == ["shapes"]


def test_others_get_the_settings(logged):
    for folder in (logged / "cls",):
        settings = yaml.safe_load((folder / "hparams.yaml").read_text())
        assert settings["training"]["loop"]["max_steps"] == 2
    plugins = EventAccumulator(str(logged / "cls")).Reload().PluginTagToContent("hparams")
    assert "_hparams_/session_start_info" in plugins


def test_what_is_typed_of_wandb_counts(tmp_path, monkeypatch):
    places = [f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs"]
    typed = [
        "logger.wandb.name=mine",
        "logger.wandb.id=abc123",
        "logger.wandb.job_type=try",
        "logger.wandb.tags=[a,b]",
        "group=paper",
        "logger.wandb.stored_mb=0",
        "+logger.wandb.notes=why",
    ]
    short = ["loop.max_steps=1", "save_every=1", "logger=wandb"]
    run(train.main, monkeypatch, *QUICK, *short, *typed, *places)
    (folder,) = (tmp_path / "outputs/shapes/runs").iterdir()
    records = read_wandb(folder)
    found = read_run(records)
    assert (found.display_name, found.run_id, found.job_type) == ("mine", "abc123", "try")
    assert (list(found.tags), found.run_group, found.notes) == (["a", "b"], "paper", "why")
    assert not [name for name in list_artifacts(records) if not name.startswith("run-")]


def test_a_resumed_training_goes_on_with_its_run(tmp_path, monkeypatch):
    places = [f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs"]
    words = [*QUICK, "loop.max_steps=2", "save_every=1", "logger=wandb", *places]
    with monkeypatch.context() as patch:
        patch.setattr("stages.learn.keep_best", cut_power)
        with pytest.raises(RuntimeError, match="power cut"):
            run(train.main, patch, *words)
    run(train.main, monkeypatch, *words)
    run(train.main, monkeypatch, *words, "overwrite=true")
    folders = sorted((tmp_path / "outputs/shapes/runs").iterdir())
    first, second, third = (read_run(read_wandb(folder)).run_id for folder in folders)
    assert first == second != third
    assert not list((tmp_path / "outputs/shapes/checkpoints").glob(".*.wandb"))


def cut_power(*_: object) -> None:
    raise RuntimeError("power cut")


def test_wandb_has_panels_tables_and_a_confusion_matrix(logged):
    records = read_wandb(logged)
    history = read_history(records)
    assert history["panels/_type"] == ["images/separated"]
    assert [sorted(masks) for masks in history["panels/all_masks"][0][:1]] == [
        ["coarse seed", "truth"]
    ]
    assert history["images/worst/_type"] == history["images/most_uncertain/_type"] == ["table-file"]
    assert "confusion_table/_type" in history
    labels = read_config(records)["_wandb"]["mask/class_labels"]
    assert any(entry["value"].get("1") == "circle" for entry in labels.values())


def test_the_picture_of_the_dashboard_shows_what_was_logged(logged, tmp_path):
    work, picture = logged.parents[1], tmp_path / "dashboard.webp"
    dashboard_picture.main(["--work", str(work), "--file", str(picture)])
    assert read_image(picture).shape[1] == 1210

    # the curve of csv, the images of the table
    (drawn,) = dashboard_picture.read_runs(work)
    with (logged / "cls/metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    steps, values = drawn.read_curve("train/loss")
    assert steps == [int(row["step"]) for row in rows]
    np.testing.assert_allclose(values, [float(row["train/loss"]) for row in rows], rtol=1e-5)
    (panels, *_) = drawn.read_panels("panels")
    assert [caption for caption, _ in panels] == ["train_00000", "coarse seed", "truth"]
    tabled = dict(drawn.read_tabled("images/worst"))
    assert {caption.partition(",")[0] for caption in tabled} <= {f"train_0000{n}" for n in range(3)}
    assert tabled
    with pytest.raises(SystemExit):
        dashboard_picture.main(["--work", str(tmp_path)])


def test_wandb_keeps_config_and_artifacts(logged):
    records = read_wandb(logged)
    config = read_config(records)
    assert config["name"] == "cls"
    assert config["made_from"] == {}
    artifacts = {
        name: aliases
        for name, aliases in list_artifacts(records).items()
        if not name.startswith("run-")
    }
    assert {name.split("-", 1)[1] for name in artifacts} - {name_config(logged)} == {
        "shapes-cls.ckpt",
        "seeds-coarse",
    }
    assert all("latest" in aliases and len(aliases) == 2 for aliases in artifacts.values())


def test_the_stages_of_a_pipeline_are_one_group_and_name_their_sources(
    finished, tmp_path, monkeypatch
):
    there = [
        f"paths.data={finished}/data",
        f"paths.base={finished}/outputs/shapes",
        f"paths.work={tmp_path}/work",
    ]
    quick = [
        "task=seg",
        "dataset.train_images=6",
        "dataset.val_images=3",
        f"ckpt={finished}/outputs/shapes/seg.ckpt",
    ]
    run(infer.main, monkeypatch, *quick, *there, "logger=wandb")
    records = read_wandb(next((tmp_path / "work/runs").iterdir()))
    (folder,) = (tmp_path / "work/runs").iterdir()
    assert read_run(records).run_group == str(folder)
    made_from = {
        "outputs-shapes-superpixels",
        "shapes-seeds-coarse_memory",
        "outputs-shapes-seg.ckpt",
    }
    assert set(read_config(records)["made_from"]) == made_from
    assert not any(
        "seg.ckpt" in name for name in list_artifacts(records)
    )  # applied here, made elsewhere

    history = read_history(records)
    (captions,), (masks,) = history["panels/captions"], history["panels/all_masks"]
    kinds = ["superpixels", "CAM", "refined CAM"]
    pictures = [
        caption.partition(": ")[2] for caption in captions if caption.startswith("train_00000: ")
    ]
    assert [
        next(kind for kind in reversed(kinds) if text.startswith(kind)) for text in pictures
    ] == kinds
    assert sorted(masks[0]) == ["coarse seed", "coarse seed, memory", "fine seed", "truth"]


def test_the_jobs_of_a_sweep_are_one_group(tmp_path, monkeypatch):
    places = [f"paths.data={tmp_path}/data", f"paths.outputs={tmp_path}/outputs"]
    short = ["loop.max_steps=1", "save_every=1", "trainer.log_every_n_steps=1", "logger=wandb"]
    run(train.main, monkeypatch, "-m", "seed=1,2", "criterion.masks=caa", *QUICK, *short, *places)
    (sweep,) = (tmp_path / "outputs/shapes/sweeps").iterdir()
    groups = [r.run.run_group for job in "01" for r in read_wandb(sweep / job) if r.HasField("run")]
    assert groups == [str(sweep)] * 2
