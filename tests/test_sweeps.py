"""Sweeps: they resume, survive failed jobs, pay for the encoder once, end with a summary."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from front_door import ROOT, compose_config, run
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

import infer
import train
from benchmarks.wandb_file import read_records
from fmawsss.files.features import FeatureStore
from fmawsss.files.journals import read_lines
from fmawsss.files.writing import HOST
from stages import config
from stages.sweeps.jobs import Job, lock_sweep, read_jobs
from stages.words import translate

IMAGES = ["dataset.train_images=4", "dataset.val_images=1"]
QUICK = [
    *IMAGES,
    "loop.max_steps=2",
    "save_every=2",
    "data.batch_size=4",
    "module.scheduler.warmup=0",
]
BARE = [
    "data.superpixels=null",
    "writers.seeds.kind=caa",
    "criterion.masks=caa",
]  # nothing made before
POWER = "stage.applying.seeding.refine.power"
AFFINITY = ["affinity.threshold=0.4", "affinity.iterations=1", "seeding.sams.background.power=0.5"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A base run with superpixels, and CAMs with their attention."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        points = "module.generator.points_per_side=4"
        run(infer.main, patch, "task=superpixels", points, *IMAGES, *list_places(folder))
        run(train.main, patch, "task=cls", "callbacks=cams", *QUICK, *list_places(folder))
    return folder


@pytest.fixture
def base(made, tmp_path):
    shutil.copytree(made, tmp_path / "base")
    return tmp_path / "base"


def list_places(folder: Path) -> list[str]:
    return [f"paths.data={folder}/data", f"paths.outputs={folder}"]


def sweep_seeding(patch: pytest.MonkeyPatch, base: Path, *overrides: str) -> Path:
    run(infer.main, patch, *describe_seeding(base), *overrides)
    return base / "shapes/sweeps/seeds_seeding"


def describe_seeding(base: Path) -> list[str]:
    cams = f"cams={base}/shapes/cams/coarse"
    return ["-m", "task=seeds", "sweep=seeding", cams, *IMAGES, *AFFINITY, *list_places(base)]


def stop_after(patch: pytest.MonkeyPatch, jobs: int) -> None:
    """Let the next job die, at its end, as a killed process would."""
    measure, done = config.measure, []

    def measure_or_die(cfg: object) -> float | None:
        if len(done) == jobs:
            raise SystemExit
        done.append(cfg)
        return measure(cfg)

    patch.setattr(config, "measure", measure_or_die)


def stamp_jobs(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/job.json")}


def test_a_seeding_sweep_ends_with_a_summary_and_its_best_settings_run(base, monkeypatch):
    folder = sweep_seeding(monkeypatch, base, "affinity.power=0,2")
    jobs = read_jobs(folder)
    assert [job.settings[POWER] for job in jobs] == ["0", "2"]
    scores = [
        json.loads((folder / str(n) / "scores.json").read_text())["seeds"]["train"]["sams"]
        for n in (0, 1)
    ]
    assert [job.value for job in jobs] == [score["miou"] for score in scores]

    rows = list(csv.DictReader((folder / "summary.csv").read_text().splitlines()))
    best = max(jobs, key=lambda job: job.value)
    assert [float(row["value"]) for row in rows] == sorted(
        (job.value for job in jobs), reverse=True
    )
    assert f"| {POWER} | {best.settings[POWER]} |" in (folder / "summary.md").read_text()
    assert "data:image/png;base64" in (folder / "summary.html").read_text()
    assert (folder / "effects.png").read_bytes().startswith(b"\x89PNG")

    written = (folder / "summary.html").read_bytes()
    (folder / "summary.html").unlink()
    run(infer.main, monkeypatch, "task=report", f"run={folder}", *list_places(base))
    assert (folder / "summary.html").read_bytes() == written

    run(
        infer.main,
        monkeypatch,
        "--config-dir",
        str(folder),
        "experiment=best",
        f"paths.work={folder}/best",
    )
    again = json.loads((folder / "best/scores.json").read_text())["seeds"]["train"]["sams"]["miou"]
    assert again == best.value


def test_the_command_of_a_summary_is_the_whole_one(base, monkeypatch):
    typed = [
        *describe_seeding(base),
        "affinity.power=range(1,2)",
        f"hydra.sweep.dir={base}/mine",
        "hydra/launcher=basic",
    ]
    (base / "more").mkdir()
    run(infer.main, monkeypatch, *typed, "--config-dir", f"{base}/more")
    command = re.search("Command: `(.*?)`", (base / "mine/summary.md").read_text())[1]
    program, *words = shlex.split(command)[1:]
    assert program == "infer.py"
    assert set(words) == {*translate(typed), f"--config-dir={base}/more"}
    before = stamp_jobs(base / "mine")
    run(infer.main, monkeypatch, *words)
    assert stamp_jobs(base / "mine") == before


def test_a_stopped_sweep_goes_on_and_wider_values_are_added(base, monkeypatch):
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(SystemExit):
            sweep_seeding(patch, base, "affinity.power=1,2")
    folder = base / "shapes/sweeps/seeds_seeding"
    before = stamp_jobs(folder)
    assert [job.status for job in read_jobs(folder)] == ["finished", "started"]
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = folder / f".{HOST}-{gone.pid}-0123abcd.tmp"  # of its table, as a kill leaves it
    left.touch()

    sweep_seeding(monkeypatch, base, "affinity.power=1,2,4")
    assert not left.exists()
    jobs = read_jobs(folder)
    assert [job.settings[POWER] for job in jobs] == ["1", "2", "4"]
    assert all(job.status == "finished" for job in jobs)
    after = stamp_jobs(folder)
    assert after["0"] == before["0"]
    assert after["1"] != before["1"]
    sweep_seeding(monkeypatch, base, "affinity.power=1,2,4")
    assert stamp_jobs(folder) == after


def test_a_failed_job_is_named_and_stops_no_other(base, monkeypatch):
    with pytest.raises(
        RuntimeError,
        match=r"1 of 2 jobs failed[\s\S]*job 0 \(.*refine\.power=oops.*power=oops: expected a",
    ):
        sweep_seeding(monkeypatch, base, "affinity.power=oops,2")
    folder = base / "shapes/sweeps/seeds_seeding"
    assert [job.status for job in read_jobs(folder)] == ["failed", "finished"]
    assert "## Failed jobs" in (folder / "summary.md").read_text()
    assert "Error" in (folder / "summary.html").read_text()


def test_a_typo_stops_the_sweep_before_its_first_job(base, monkeypatch):
    with pytest.raises(Exception, match="thresold"):
        sweep_seeding(monkeypatch, base, "affinity.thresold=1,2")
    assert read_jobs(base / "shapes/sweeps/seeds_seeding") == []


def test_only_one_process_runs_a_sweep(base, monkeypatch):
    with (
        lock_sweep(base / "shapes/sweeps/seeds_seeding"),
        pytest.raises(RuntimeError, match="another run"),
    ):
        sweep_seeding(monkeypatch, base, "affinity.power=1,2")


def test_agreement_needs_no_truth(base, monkeypatch):
    shutil.rmtree(base / "data/shapes-0/SegmentationClass")
    with_labels = ["dataset/labels=xml", "criterion=agreement"]
    folder = sweep_seeding(monkeypatch, base, "affinity.power=1,2", *with_labels)
    for job in read_jobs(folder):
        lines = read_lines(folder / str(job.number) / "seeds/from_cams").values()
        values = [line["agreement"] for line in lines]
        assert len(values) == 4
        assert job.value == pytest.approx(sum(values) / 4)
        assert 0 < job.value < 1
    assert "agreement" in (folder / "summary.md").read_text()


def test_optuna_repeats_killed_trials_and_the_encoder_is_paid_once(tmp_path, monkeypatch):
    written: list[int] = []
    write: Callable[..., None] = FeatureStore.write
    monkeypatch.setattr(
        FeatureStore,
        "write",
        lambda store, rows, *more: (written.extend(rows), write(store, rows, *more)),
    )
    sweep = [
        "-m",
        "task=cls",
        "sweep=prompts_optuna",
        "hydra.sweeper.search.trials=3",
        "cache=features",
        "cache.views=1",
    ]
    sweep += [*QUICK, *BARE, "augment=shapes_network", *list_places(tmp_path)]
    folder = tmp_path / "shapes/sweeps/cls_prompts_optuna"
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(SystemExit):
            run(train.main, patch, *sweep)
    killed = read_jobs(folder)
    assert [job.status for job in killed] == ["finished", "started"]

    run(train.main, monkeypatch, *sweep)
    jobs = read_jobs(folder)
    assert [job.status for job in jobs] == ["finished"] * 3
    assert jobs[1].overrides == killed[1].overrides
    assert sorted(written) == [0, 1, 2, 3]
    assert (folder / "study.jsonl").is_file()
    with pytest.raises(
        ValueError,
        match=r"study of other settings \(stage.learning.optimizer.lr\)[\s\S]*hydra.sweep.dir",
    ):
        run(train.main, monkeypatch, *sweep, "optimizer.lr=0.5")


def test_a_sweep_over_seeds_gives_mean_and_deviation(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    seeds = ["sweep=seeds", "seed=0,1", "logger=wandb"]
    run(train.main, monkeypatch, "-m", "task=cls", *seeds, *QUICK, *BARE, *list_places(tmp_path))
    folder = tmp_path / "shapes/sweeps/cls_seeds"
    values = [job.value for job in read_jobs(folder)]
    mean, std = sum(values) / 2, abs(values[0] - values[1]) / 2**0.5
    assert (
        f"| value | 2 | {100 * mean:.1f} ± {100 * std:.1f} |" in (folder / "summary.md").read_text()
    )
    runs = list(folder.glob("*/wandb/offline-run-*/run-*.wandb"))
    assert sorted(path.parents[2].name for path in runs) == ["0", "1"]
    groups = [
        record.run.run_group
        for path in runs
        for record in read_records(path)
        if record.HasField("run")
    ]
    assert groups == [str(folder)] * 2  # which names the data set, too
    assert "seed" not in OmegaConf.load(folder / "experiment/best.yaml")


NETWORK = [
    "task=network",
    "seeds=${dataset.root}/${dataset.masks}",
    *IMAGES,
    "loop.max_steps=1",
    "save_every=1",
]


@pytest.mark.parametrize("task", ["task=network", "task=pipeline"])
def test_the_reported_split_chooses_nothing_by_itself(tmp_path, monkeypatch, task):
    with pytest.raises(
        ValueError,
        match=r"chooses options.compile by the network masks[\s\S]*criterion.split=train",
    ):
        run(
            train.main,
            monkeypatch,
            "-m",
            task,
            "compile=true,false",
            "seed=0,1",
            *list_places(tmp_path),
        )
    assert not list(tmp_path.glob("shapes/sweeps/*/*/job.json"))


def test_a_split_that_is_named_chooses_a_network(tmp_path, monkeypatch):
    named = [
        "criterion.split=train",
        "data.predict_split=train",
        "hydra.sweep.dir=${paths.base}/sweeps/lr",
    ]
    run(
        train.main,
        monkeypatch,
        "-m",
        *NETWORK,
        "optimizer.lr=0.1,0.01",
        *named,
        *list_places(tmp_path),
    )
    folder = tmp_path / "shapes/sweeps/lr"
    scores = [
        json.loads((folder / n / "scores.json").read_text())["network"]["train"]["network"]
        for n in "01"
    ]
    assert [job.value for job in read_jobs(folder)] == [score["miou"] for score in scores]
    assert "split train" in (folder / "summary.md").read_text()


def test_networks_are_repeated_over_seeds_without_a_choice(tmp_path, monkeypatch):
    run(train.main, monkeypatch, "-m", "sweep=seeds", "seed=0,1", *NETWORK, *list_places(tmp_path))
    folder = tmp_path / "shapes/sweeps/network_seeds"
    assert [(job.status, job.value) for job in read_jobs(folder)] == [("finished", None)] * 2
    summary = (folder / "summary.md").read_text()
    assert "| network/val/network | 2 |" in summary
    assert "Nothing is chosen" in summary
    assert not (folder / "experiment").exists()


@pytest.mark.slow
def test_jobs_run_side_by_side(base):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "affinity.power=1,oops,2"]
    command = [sys.executable, str(ROOT / "infer.py"), *describe_seeding(base), *launcher]
    ended = subprocess.run(command, cwd=base, timeout=300, capture_output=True, text=True)
    assert ended.returncode != 0
    assert "1 of 3 jobs failed" in ended.stderr
    jobs: list[Job] = read_jobs(base / "shapes/sweeps/seeds_seeding")
    assert [job.status for job in jobs] == ["finished", "failed", "finished"]
    assert jobs[0].value != jobs[2].value


@pytest.mark.parametrize("launcher", ["basic", "joblib", "submitit_local", "submitit_slurm"])
def test_launchers_compose(launcher):
    hydra = compose_sweep(f"hydra/launcher={launcher}", "sweep=prompts", "task=seg")
    assert launcher.split("_")[0] in hydra.launcher._target_


def test_every_setting_of_the_prompts_is_a_choice():
    few, all_six = (
        compose_sweep(f"sweep={name}", "task=seg") for name in ("prompts", "prompts_all")
    )
    choices = {key: str(values).split(",") for key, values in all_six.sweeper.params.items()}
    assert len(choices) == 6
    assert all(len(set(values)) == 2 for values in choices.values())
    for key, values in few.sweeper.params.items():  # whose jobs are found again
        assert set(str(values).split(",")) <= set(choices[key])
    assert few.sweep.dir == all_six.sweep.dir
    last = compose_config(
        "train", "task=seg", *(f"{key}={values[-1]}" for key, values in choices.items())
    )
    stage = last.stage
    assert (stage.model.prompts.contexts.std, stage.learning.optimizer.lr) == (0.03, 0.002)
    assert "Foreground" in stage.model.prompts._target_


def compose_sweep(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return compose("train", list(overrides), return_hydra_config=True).hydra


def test_a_launcher_that_breaks_down_is_reported(base, monkeypatch):
    def break_down(*_: object, **__: object) -> None:
        raise OSError("the node is gone")

    launchers = Plugins.instance().class_name_to_class
    basic = launchers["hydra._internal.core_plugins.basic_launcher.BasicLauncher"]
    monkeypatch.setattr(basic, "launch", break_down)
    with pytest.raises(RuntimeError, match=r"2 of 2 jobs failed[\s\S]*ended without a record"):
        sweep_seeding(monkeypatch, base, "affinity.power=1,2")
    assert "2 not finished" in (base / "shapes/sweeps/seeds_seeding/summary.md").read_text()


def test_the_same_command_goes_on(base, monkeypatch):
    """In any order of its words, without a name for the sweep; others are another sweep."""
    words = ["task=cls", "prompts=handwritten", *BARE, *IMAGES, *list_places(base)]
    words += ["affinity.iterations=1,2", "report=none"]
    run(infer.main, monkeypatch, "-m", *words)

    def fail(*args, **kwargs):
        raise InterruptedError

    monkeypatch.setattr("lightning.Trainer.predict", fail)
    run(infer.main, monkeypatch, *reversed(words), "-m")  # all jobs are done
    with pytest.raises(Exception, match="job"):
        run(infer.main, monkeypatch, "-m", *words, "seed=1")
