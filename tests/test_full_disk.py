"""A disk that is full: one line, nothing lost, and the same command goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from front_door import QUICK, run
from omegaconf.errors import InterpolationResolutionError

import infer
from fmawsss.files import writing


@pytest.mark.parametrize("files", [2, 5])
def test_a_full_disk_is_told_and_the_same_command_goes_on(finished, tmp_path, monkeypatch, files):
    command = ["task=superpixels", *QUICK[:2], f"paths.data={finished}/data", "logger=none"]
    command += ["module.generator.points_per_side=2", f"paths.work={tmp_path}/work"]
    written: list[Path] = []

    def fill(path: Path) -> None:
        written.append(path)
        if len(written) > files:  # from now on, the record of the run included
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "sync_file", fill)
        with pytest.raises(OSError, match=f"^no room in {tmp_path}/work.*paths.outputs=DIR"):
            run(infer.main, patch, *command)
    assert not list(tmp_path.rglob("*.tmp"))

    run(infer.main, monkeypatch, *command)
    names = {path.stem for path in (tmp_path / "work/superpixels").glob("*.npz")}
    assert names == {f"train_{number:05d}" for number in range(6)}


def test_files_that_may_not_be_large_are_told_before_hydra_writes(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    said = rf"a file in {tmp_path}/out/shapes would be larger.*raise the limit.*paths\.outputs=DIR"
    try:
        with pytest.raises(InterpolationResolutionError, match=said):
            run(infer.main, monkeypatch, "task=superpixels", f"paths.outputs={tmp_path}/out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
