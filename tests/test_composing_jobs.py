"""The configs of a sweep's jobs: few are composed, and all are as Hydra composes them."""

from __future__ import annotations

import sys
from itertools import product
from types import SimpleNamespace

import pytest
from front_door import ROOT
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from stages.words import translate

WORDS = (
    ("0.1", "0.2"),
    ("poly", "warmup_cosine"),
    ("dataset.classes=[a,b]", "dataset.classes=null", "+mine={b: 1}"),
)


def test_few_jobs_are_composed_and_all_are_as_hydra_composes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    if str(ROOT / "conf") not in sys.path:
        monkeypatch.syspath_prepend(str(ROOT / "conf"))
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        from hydra_plugins.fmawsss.sweeper import ResumableSweeper, digest_config

        # a sweeper, and its jobs
        loader = GlobalHydra.instance().config_loader()
        sweeper = ResumableSweeper({}, None, None, None)
        sweeper.hydra_context = SimpleNamespace(config_loader=loader)
        sweeper.config = loader.load_configuration("train", [], RunMode.MULTIRUN)
        sweeper.parser = OverridesParser.create(config_loader=loader)
        jobs = [
            translate(["task=cls", f"optimizer.lr={lr}", f"scheduler={name}", last])
            for lr, name, last in product(*WORDS)
        ]

        # as they are composed one by one
        expected = [digest_config(sweeper.compose(job)) for job in jobs]
        composed: list[list[str]] = []

        def count(job: list[str]) -> DictConfig:
            composed.append(job)
            return ResumableSweeper.compose(sweeper, job)

        monkeypatch.setattr(sweeper, "compose", count)
        assert [digest_config(cfg) for cfg in sweeper.compose_jobs(jobs)] == expected
        assert len(set(expected)) == len(jobs) == 12
        assert len(composed) == 4  # two schedulers, with and without `mine`
