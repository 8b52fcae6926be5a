"""Apply a stage to images: python infer.py task=network dataset=folder dataset.root=photos."""

from __future__ import annotations

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from stages.door import announce, enter, register_resolvers

CONF = Path(__file__).parent / "conf"
sys.path.append(str(CONF))  # Hydra finds sweeper and options there, in `hydra_plugins`
register_resolvers()  # `folder` makes one before Hydra makes its own


@hydra.main(version_base=None, config_path=str(CONF), config_name="infer")
def apply_stages(cfg: DictConfig) -> float | None:
    """Apply the chosen stage, or do the job; return the number that a sweep maximises."""
    announce(cfg)

    # what predicts is imported here: --help and --cfg answer at once
    from stages.config import choose_split, is_job, measure, open_run
    from stages.idle_words import refuse_idle
    from stages.jobs.start import run_job

    refuse_idle(cfg, learning=False)
    with open_run(cfg):
        choose_split(cfg, learning=False)
        if is_job(cfg):
            return run_job(cfg)
        from stages.assembly import build_stages, place_others
        from stages.pipeline import run_stages
        from stages.plan.run import plan_run
        from stages.publish import export

        place_others(cfg)
        if cfg.options.plan:
            return plan_run(cfg, learning=False)
        stages = build_stages(cfg, learning=False)
        run_stages(stages)
        export(stages[-1])
        return measure(cfg)


def main() -> None:
    """Read the words of the command line, and apply."""
    enter(apply_stages)


if __name__ == "__main__":
    main()
