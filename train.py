"""Learn one stage, or all of them in turn: python train.py task=cls dataset=voc."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from stages.door import announce, enter, register_resolvers

CONF = Path(__file__).parent / "conf"
sys.path.append(str(CONF))  # Hydra finds sweeper and options there, in `hydra_plugins`
register_resolvers()  # `folder` makes one before Hydra makes its own


@hydra.main(version_base=None, config_path=str(CONF), config_name="train")
def learn_stages(cfg: DictConfig) -> float | None:
    """Run the chosen stage, or every stage of the pipeline; return what a sweep maximises."""
    announce(cfg)

    # what learns is imported here: --help and --cfg answer at once
    from stages.assembly import build_stages
    from stages.config import choose_split, measure, open_run, refuse_ambiguity, refuse_job
    from stages.idle_words import refuse_idle
    from stages.pipeline import run_stages
    from stages.plan.run import plan_run

    refuse_idle(cfg, learning=True)
    with open_run(cfg):
        refuse_job(cfg)
        refuse_ambiguity(cfg)
        choose_split(cfg, learning=True)
        if cfg.options.plan:
            return plan_run(cfg, learning=True)
        run_stages(build_stages(cfg, learning=True))
        return measure(cfg)


def main() -> None:
    """Read the words of the command line, and learn."""
    enter(learn_stages)


if __name__ == "__main__":
    main()
