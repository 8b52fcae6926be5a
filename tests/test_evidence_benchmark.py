"""`python -m benchmarks.evidence`: all sources of evidence in one table, with tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("transformers", minversion="5.0")

from front_door import run
from text_tools import write_sam3

import benchmarks.evidence
import infer
import train
from benchmarks.evidence import Commands, build_table, list_networks
from stages.reports.evidence import write_markdown

QUICK = ["dataset.train_images=4", "dataset.val_images=2", "logger=none", "loading.workers=0"]
QUICK += ["masks.points_per_side=4", "options.steps=2", "trainer=cpu", "seed=3"]


@pytest.fixture
def in_this_process(monkeypatch) -> None:
    """Run commands where they are asked for: starting a program takes seconds."""

    def call(commands: Commands, door: str, *words: str) -> None:
        commands.run_so_far.append(" ".join([door, *words]))
        main = {"infer.py": infer.main, "train.py": train.main}[door]
        run(main, monkeypatch, *words, *commands.words)

    monkeypatch.setattr(Commands, "run", call)


def test_the_table_of_generated_images(in_this_process, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_sam3(tmp_path / "weights" / "sam3")
    benchmarks.evidence.main([*QUICK, "--outputs", "out"])
    told = capsys.readouterr().out
    assert "without grounding_dino: weights/grounding-dino-base/config.json is missing" in told

    # what the table says is what the scores say
    work = tmp_path / "out/shapes"
    scores = json.loads((work / "scores.json").read_text())
    found = json.loads((work / "evidence.json").read_text())
    (row,) = found["rows"]
    expected = [scores["cls"]["train"][kind]["miou"] for kind in ("cam", "caa", "sams")]
    expected.append(scores["coarse_memory"]["train"]["memory"]["miou"])
    expected.append(scores["sam3"]["train"]["text"]["miou"])
    expected.append(scores["sam3_and_coarse_memory"]["train"]["memory"]["miou"])
    network = json.loads((work / "network_sam3/scores.json").read_text())
    expected.append(network["network"]["val"]["network"]["miou"])
    assert row["miou"] == expected
    assert row["supervision"][0] == "captions (CLIP)"
    assert row["supervision"][4] == "masks with phrases (SAM 3)"
    assert found["seed"] == "3"
    assert {*found["files"]} == {
        f"sam3/{n}" for n in ("config.json", "model.safetensors", "tokenizer.json")
    }
    assert "seeds/sam3_and_coarse_memory" in found["products"]

    # printed, kept, and in the report
    table = (work / "evidence.md").read_text()
    assert table in told
    assert f"| with sam3 | {100 * expected[0]:.1f} |" in table
    report = (work / "report.html").read_text()
    assert "<td>with sam3</td>" in report
    assert f'<td class="number">{100 * expected[5]:.1f}</td>' in report


def test_without_any_source_the_table_is_clips(tmp_path: Path) -> None:
    kinds = {kind: {"miou": 0.5} for kind in ("cam", "caa", "sams")}
    scores = {"cls": {"train": kinds}, "coarse_memory": {"train": {"memory": {"miou": 0.75}}}}
    made = build_table(scores, [], tmp_path)
    assert made["rows"][0]["miou"] == [0.5, 0.5, 0.5, 0.75, None, None, None]
    assert list_networks([]) == {"network_clip": "coarse_memory"}
    told = write_markdown({**made, "seed": "0", "commands": [], "products": {}, "files": {}})
    assert (
        "| with no text-prompted source | 50.0 | 50.0 | 50.0 | 75.0 | none | none | none |" in told
    )


def test_what_the_benchmark_chooses_is_refused(capsys) -> None:
    with pytest.raises(SystemExit):
        benchmarks.evidence.main(["dataset=voc", "paths.work=elsewhere"])
    assert "paths.work=elsewhere is for this benchmark to choose" in capsys.readouterr().err


def test_a_broken_table_is_refused_by_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    work = tmp_path / "outputs/shapes"
    work.mkdir(parents=True)
    (work / "evidence.json").write_text('{"rows": [3]}')
    with pytest.raises(ValueError, match=r"evidence\.json holds no table of evidence.*delete it"):
        run(infer.main, monkeypatch, "task=report")
