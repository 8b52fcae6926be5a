"""The benchmark of networks runs; its numbers are the machine's."""

from __future__ import annotations

import re

from hydra.utils import instantiate

import benchmarks.networks


def test_every_cost_of_a_network_is_measured(capsys):
    benchmarks.networks.main(["--quick", "--networks", "timm", "mask2former_swin_l"])
    table = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| timm", "| mask2former_swin_l"]
    for line in table[2:]:
        million, bare, step, prediction, loader, *_ = map(
            float, re.findall(r"\d+\.?\d*(?:e-\d+)?", line.split("|", 2)[2])
        )
        assert min(million, bare, loader) > 0
        assert step > 0 < prediction


def test_the_tower_starts_without_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = benchmarks.networks.compose_network("tower", benchmarks.networks.FULL["tower"], crop=224)
    assert instantiate(cfg.stage.learning.network, _convert_="all")(classes=21)
