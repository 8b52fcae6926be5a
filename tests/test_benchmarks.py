"""`python -m benchmarks` at small sizes: both sides agree, and a disagreement is an error."""

from __future__ import annotations

import csv

import pytest
from PIL import Image

from benchmarks import plain_seeds
from benchmarks.__main__ import main
from benchmarks.parts import PARTS


def test_every_part_is_measured_and_agrees(tmp_path, capsys):
    main(["--quick", "--seconds", "0", "--out", str(tmp_path)])
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(PARTS)
    for row in rows:
        assert float(row["deviation"]) <= (0.05 if row["part"].startswith("masks") else 1e-3)
        assert float(row["faster"]) > 0
        assert float(row["ours_flops"]) > 0 or row["part"].startswith("SAMS")
    peaks = {row["part"]: row for row in rows if row["ours_peak_bytes"]}
    assert [label.split(",")[0] for label in peaks] == [
        "cls step",
        "seg step",
        "SAMS",
        "prediction",
    ]
    table = (tmp_path / "table.md").read_text()
    assert all(f"| {row['part']} |" in table for row in rows)
    assert table in capsys.readouterr().out
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.size[1] > 20 * len(rows)


def test_sides_that_differ_are_an_error(tmp_path, monkeypatch):
    right = plain_seeds.refine
    monkeypatch.setattr(plain_seeds, "refine", lambda *inputs: 1.01 * right(*inputs))
    with pytest.raises(SystemExit, match="CAA, 48 patches, 2 classes"):
        main(["--quick", "--seconds", "0", "--parts", "caa_768", "--out", str(tmp_path)])


def test_a_part_that_fails_leaves_the_others_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plain_seeds, "refine", lambda *inputs: 1 / 0)
    words = ["--quick", "--seconds", "0", "--parts", "caa_768,cams", "--out", str(tmp_path)]
    with pytest.raises(SystemExit, match="failed: caa_768"):
        main(words)
    shown = capsys.readouterr().out
    assert "caa_768 failed: ZeroDivisionError" in shown
    assert "| CAMs of 4 crops" in shown
    main([*words, "--limit", "0"])
    assert "no time was left for caa_768, cams" in capsys.readouterr().out


def test_an_unknown_part_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--quick", "--parts", "sams,painting", "--out", str(tmp_path)])
    assert "'painting' is no part" in capsys.readouterr().err
