"""Settings of the whole test run: shapes are checked at every call, one thread, no network."""

import gc
import logging
import os
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from composing import merge_choices_once, read_once
from front_door import QUICK, run
from jaxtyping import install_import_hook
from omegaconf import OmegaConf

# Every function of the package checks the shapes and types that its signature promises.
install_import_hook("fmawsss", "type_checker.check")

torch.set_num_threads(1)

FINISHED: dict[Path, set[Path]] = {}  # what lies in the shared pipeline

FORKING = {"test_kills.py", "test_locks.py", "test_signals.py"}
LONGEST = {
    "test_benchmarks.py", "test_commands.py", "test_ddp.py", "test_memory.py", "test_pipeline.py",
    "test_pretrain.py", "test_real_coco.py", "test_real_data.py", "test_sweeps.py",
}  # fmt: skip


@pytest.fixture(scope="session", autouse=True)
def _configs_are_merged_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(read_once(OmegaConf.load)))
        merge_choices_once(patch)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with files that fork, which works until autograd was used, then with the longest.

    So no process waits for another at the end.
    """
    items.sort(key=lambda item: (item.path.name not in FORKING, item.path.name not in LONGEST))


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what was imported, for good."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def quiet_loggers():
    """Forget the levels that a test before set: tests see the same messages in any order."""
    for name in ("fmawsss", "datamodules", "callbacks", "stages"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished pipeline, for tests that only read: its folder holds `data` and `outputs`."""
    import train

    folder = tmp_path_factory.mktemp("pipeline")
    with pytest.MonkeyPatch.context() as patch:
        run(
            train.main,
            patch,
            *QUICK,
            f"paths.data={folder}/data",
            f"paths.outputs={folder}/outputs",
        )
    FINISHED[folder] = paths_below(folder)
    return folder


@pytest.fixture(autouse=True)
def _finished_pipelines_stay_as_they_are():
    """Blame the test that changes the shared pipeline, not one that reads it."""
    yield
    for folder, before in FINISHED.items():
        now = paths_below(folder)
        FINISHED[folder] = now
        assert now == before, f"this test changed {folder}: {sorted(now ^ before)[:3]}"


def paths_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))
