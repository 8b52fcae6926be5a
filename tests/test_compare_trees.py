"""Two trees are compared to the bit, and a difference says where it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import compare_trees
from benchmarks.compare_trees import COMMANDS, DEFAULT, QUICK, compare_folders, read_commands

MASK = np.arange(12, dtype=np.uint8).reshape(3, 4)


def write_results(folder: Path) -> Path:
    """One product of each kind, and records that are not compared."""
    (folder / "seeds").mkdir(parents=True)
    Image.fromarray(MASK).save(folder / "seeds/a.png")
    np.savez(folder / "cams.npz", cam=np.ones((2, 3), np.float32), fingerprint=folder.name)
    state = {"context": torch.arange(6.0), "step": torch.tensor(3)}
    torch.save({"state_dict": state, "epoch": folder.name}, folder / "cls.ckpt")
    (folder / "scores.json").write_text(json.dumps({"cls": {"train": {"miou": 0.5}}}))
    for record in ("cls.ckpt.json", "seeds.json", "stages.json", "report.html"):
        (folder / record).write_text(folder.name)
    return folder


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    return write_results(tmp_path / "old"), write_results(tmp_path / "new")


def list_strange(trees: tuple[Path, Path]) -> list[tuple[str, str, str]]:
    found = [d for d in compare_folders(*trees) if d.purpose is None]
    return [(d.file, d.part, d.how) for d in found]


def test_equal_products_are_equal_whatever_their_records_say(trees):
    found = list(compare_folders(*trees))
    assert [(d.file, d.part) for d in found] == [("cams.npz", "fingerprint")]
    assert found[0].purpose


def test_a_difference_names_file_part_and_value(trees):
    mask, state = MASK.copy(), {"context": torch.arange(6.0), "step": torch.tensor(3)}
    mask[1, 2], state["context"][4] = 9, -4.0
    Image.fromarray(mask).save(trees[1] / "seeds/a.png")
    torch.save({"state_dict": state}, trees[1] / "cls.ckpt")
    (trees[1] / "scores.json").write_text(json.dumps({"cls": {"train": {"miou": 0.25}}}))
    np.savez(trees[1] / "cams.npz", cam=np.ones((2, 3), np.float64))
    (trees[1] / "more.npz").touch()

    strange = {(file, part): how for file, part, how in list_strange(trees)}
    assert strange["seeds/a.png", "pixels"] == "1 of 12 values, at (1, 2) 6 -> 9"
    assert strange["cls.ckpt", "state_dict.context"] == "1 of 6 values, at (4,) 4.0 -> -4.0"
    assert strange["scores.json", "cls.train.miou"] == "0.5 -> 0.25"
    assert strange["cams.npz", "cam"] == "float32 (2, 3) -> float64 (2, 3)"
    assert strange["more.npz", "file"] == "only new"


def test_a_zero_of_another_sign_is_another_value(trees):
    for folder, zero in zip(trees, (0.0, -0.0), strict=True):
        np.savez(folder / "cams.npz", cam=np.full((2, 3), zero, np.float32))
    assert [(file, part) for file, part, _ in list_strange(trees)] == [("cams.npz", "cam")]


def test_commands_have_the_words_of_both_trees():
    text = (
        "# a comment\n\nold: train.py names=[a] {steps}\ntrain.py classes=[a] {steps}\ninfer.py\n"
    )
    changed, same = read_commands(text, QUICK)
    assert (changed.old.split()[1], changed.new.split()[1]) == ("names=[a]", "classes=[a]")
    assert (same.old, same.new) == ("infer.py", "infer.py")
    for settings in (QUICK, DEFAULT):
        assert len(read_commands(COMMANDS.read_text(), settings)) > 20


def test_a_command_that_fails_says_so(tmp_path, capsys):
    (tmp_path / "train.py").write_text("raise SystemExit('no images')")
    (tmp_path / "new").mkdir()
    failed = list(compare_trees.run_command(tmp_path, tmp_path / "new", "train.py task=cls", 7))
    assert len(failed) == 1
    assert "no images" in failed[0]
    assert "07.log" in failed[0]
    assert capsys.readouterr().out.startswith("  new")
