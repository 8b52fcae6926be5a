"""The tutorial, command by command, on sixty photos; trainings are cut short."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from front_door import ROOT, run

import infer
from fmawsss.tiny.photos import main

TEXT = (ROOT / "docs" / "tutorial.md").read_text()
COMMANDS = re.findall(r"(?m)^    (python .*)$", TEXT)


def type_command(line: str, folder: Path, *more: str) -> None:
    words = [sys.executable, *shlex.split(line)[1:], *more]
    words = [str(ROOT / word) if word in ("train.py", "infer.py") else word for word in words]
    subprocess.run(words, cwd=folder, check=True)


@pytest.mark.slow
def test_photos_become_masks(tmp_path):
    for line in COMMANDS:
        short = "train.py" in line and "plan" not in line
        type_command(line, tmp_path, *(["stages.network.loop.max_steps=3"] if short else []))
    assert len(list((tmp_path / "outputs" / "folder" / "masks" / "new_photos").glob("*.png"))) >= 5
    assert (tmp_path / "outputs" / "folder" / "report.html").is_file()
    python = re.findall(r"(?m)^    (from .*|found .*|print.*)$", TEXT)
    subprocess.run([sys.executable, "-c", "\n".join(python)], cwd=tmp_path, check=True)


def test_masks_show_what_the_table_says(tmp_path, monkeypatch, capsys):
    """The classes of a table stand in alphabetical order, and so must the values of its masks."""
    main([str(tmp_path / "photos"), "--photos", "4", "--masks", str(tmp_path / "truth")])
    words = (
        COMMANDS[1].replace("photos", f"{tmp_path}/photos").replace("truth", f"{tmp_path}/truth")
    )
    assert "task=check" in words
    run(infer.main, monkeypatch, *words.split()[2:], "job.workers=0", f"paths.outputs={tmp_path}")
    shown = capsys.readouterr().out
    assert "nothing to repair" in shown
    assert "do not show" not in shown


def test_photos_are_new_files_only(tmp_path, capsys):
    main([str(tmp_path / "photos"), "--photos", "2", "--masks", str(tmp_path / "truth")])
    assert len(list((tmp_path / "photos").iterdir())) == 2
    assert (tmp_path / "photos.csv").read_text().startswith("name,labels\nIMG_0001,")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "photos")])
    assert "is there already" in capsys.readouterr().err
