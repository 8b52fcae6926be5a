"""`python -m benchmarks.checkpoints_table`: rows are measured, kept where there is no file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from front_door import ROOT, compose_config

from benchmarks.checkpoints_table import LIST, PAGE, main, read_list, read_rows

KEPT = "| mine, kept | 01234567, 1.0 MB | val | network | 99.0 | 1.0 | 1.0 | `task=network` |"


def test_rows_are_filled_or_kept(finished: Path, tmp_path: Path, capsys) -> None:
    words = f"task=network paths.data={finished}/data dataset.val_images=3 dataset.train_images=6"
    entries = [
        {"name": "measured", "ckpt": f"{finished}/outputs/shapes/network.ckpt", "words": words},
        {"name": "mine, kept", "ckpt": "none.ckpt", "words": "task=network"},
        {"name": "absent", "ckpt": "none.ckpt", "words": "task=cls"},
        {"name": "broken", "ckpt": f"{finished}/outputs/shapes/cls.ckpt", "words": words},
    ]
    (tmp_path / "list.yaml").write_text(json.dumps(entries))
    page = tmp_path / "page.md"
    page.write_text(f"# Title\n\nbefore\n\n| checkpoint |\n|---|\n{KEPT}\n\nafter\n")
    options = ["--list", f"{tmp_path}/list.yaml", "--page", str(page), "--out", f"{tmp_path}/out"]
    with pytest.raises(SystemExit, match="failed: broken"):
        main(options)
    rows, text = read_rows(page), page.read_text()
    assert list(rows) == ["measured", "mine, kept", "absent", "broken"]
    assert rows["mine, kept"] == [KEPT]
    assert "not measured: no such file here" in rows["absent"][0]
    (row,) = rows["measured"]
    scores = json.loads((finished / "outputs/shapes/scores.json").read_text())
    assert f"| val | network | {100 * scores['network']['val']['network']['miou']:.1f} |" in row
    assert text.startswith("# Title\n\nbefore\n\n| checkpoint | file |")
    assert text.endswith("|\n\nafter\n")
    assert "no checkpoint of a network" in capsys.readouterr().out


def test_entries_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- {name: a, ckpt: b}")
    with pytest.raises(SystemExit, match="entry 1: expected name"):
        main(["--list", str(tmp_path / "list.yaml"), "--page", str(tmp_path / "page.md")])


def test_the_list_and_the_page_fit() -> None:
    entries = read_list(LIST)
    assert {entry.name for entry in entries} == set(read_rows(PAGE))
    for entry in entries:
        assert compose_config("infer", *entry.words.split())
    assert ROOT in LIST.parents
