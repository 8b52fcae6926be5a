"""Files are written whole or not at all, and leave nothing behind."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fmawsss.files import writing
from fmawsss.files.writing import append_line, name_temporary, remove_leftovers, replace_file


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.txt"
    writing.write_bytes(path, b"old")
    with pytest.raises(KeyError):
        write_half(path, KeyError())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def write_half(path: Path, error: Exception) -> None:
    with replace_file(path) as temporary:
        temporary.write_bytes(b"half")
        raise error


def test_names_up_to_the_limit_of_the_file_system_can_be_written(tmp_path):
    path = tmp_path / ("n" * 251 + ".png")
    writing.write_bytes(path, b"whole")
    assert path.read_bytes() == b"whole"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"no room in .*outputs \(\d+ MB free\).*paths\.outputs=DIR"),
        (errno.EDQUOT, r"no room in .*outputs"),
        (errno.EROFS, r"outputs cannot be written.*paths\.outputs=DIR"),
        (errno.EFBIG, r"file in .*outputs would be larger.*ulimit -f.*paths\.outputs=DIR"),
    ],
)
def test_a_full_or_closed_disk_names_folder_and_setting(tmp_path, number, message):
    folder = tmp_path / "outputs"
    with pytest.raises(OSError, match=message):
        write_half(folder / "a.txt", OSError(number, os.strerror(number)))
    assert list(folder.iterdir()) == []


def test_a_folder_in_the_place_of_a_file_is_named_and_kept(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError, match=r"report\.html is a folder where a file belongs: remove it"):
        writing.write_bytes(tmp_path / "report.html", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_what_the_disk_says_of_a_checkpoint_is_heard(tmp_path):
    path = tmp_path / "last.ckpt"
    writing.write_tensors(path, {"weights": torch.ones(3)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        with pytest.raises(OSError, match="would be larger"):
            writing.write_tensors(path, {"weights": torch.ones(9000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(torch.load(path, weights_only=True)["weights"]) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_behind_a_cut_one_takes_its_place(tmp_path):
    path = tmp_path / "lines.jsonl"
    for line in ("one", "two" * 50_000):
        append_line(path, line)
    whole = path.read_bytes()
    for cut in (b"th", b"x" * 200_000):
        path.write_bytes(whole + cut)
        append_line(path, "three")
        assert path.read_bytes() == whole + b"three\n"
    path.write_bytes(b"nothing but a cut line")
    append_line(path, "one")
    assert path.read_bytes() == b"one\n"


def test_what_killed_runs_left_is_removed_and_what_others_write_is_not(tmp_path):
    script = "import sys; from fmawsss.files.writing import name_temporary; print(name_temporary())"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    dead, living = tmp_path / done.stdout.strip(), tmp_path / name_temporary("shapes-0-")
    other = tmp_path / ".elsewhere-1-0123abcd.tmp"
    old = tmp_path / ".elsewhere-1-3210abcd.tmp"
    for path in (dead, other, old, tmp_path / ".keep.tmp", tmp_path / "photo.png"):
        path.write_bytes(b"half")
    living.mkdir()
    os.utime(old, (0, 0))
    remove_leftovers(tmp_path)
    deeper = tmp_path / "pictures" / dead.name
    deeper.parent.mkdir()
    deeper.write_bytes(b"half")
    remove_leftovers(tmp_path)
    assert deeper.exists()
    remove_leftovers(tmp_path, deep=True)
    assert not deeper.exists()
    deeper.parent.rmdir()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {living.name, other.name, ".keep.tmp", "photo.png"}
