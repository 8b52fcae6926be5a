"""Lay out a project in W&B for prompts, seeds and networks: `python infer.py task=dashboard`."""

from __future__ import annotations

import logging
from typing import Any

logger = logging.getLogger(__name__)

STEP = "trainer/global_step"
# Curves of trainings, in one section; of each, what is drawn
CURVES = {
    "loss": ["train/loss"],
    "learning rate": ["train/lr"],
    "gradient norm": ["train/gradient_norm"],
    "images per second": ["train/images_per_second"],
    "memory, GB": ["train/memory_gb"],
    "validation mIoU": ["val/miou", "val/miou_power_5", "val/miou_power_10"],
}
# Final scores by stage: kinds of masks, each on the split it is scored on
SCORES = {
    "seeds": [f"scores/train/{kind}/miou" for kind in ("cam", "caa", "sams", "memory")],
    "network": ["scores/val/network/miou"],
}
PICTURES = {
    "seeds": ["panels", "pictures"],
    "images to look at": ["images/worst", "images/most_uncertain"],
}


def save_layout(entity: str, project: str, name: str) -> str:
    """Save a view of a project, beside those that are there, and return its address.

    Raises:
        ValueError: without the library, an account, or the network.
    """
    layout = build_layout(entity, project, name)
    try:
        layout.save()
    except Exception as error:  # of the network, of the account: the library has many kinds
        raise ValueError(
            f"no view was saved in {entity}/{project} ({error}): `wandb login`, and a project that "
            "holds a run (logger=wandb logger.wandb.offline=false)"
        ) from error
    logger.info("saved the view %s: %s", name, layout.url)
    return str(layout.url)


def build_layout(entity: str, project: str, name: str) -> Any:
    """Build the view: curves of trainings, final scores, pictures, confusions.

    Raises ValueError without the library.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        from wandb_workspaces.workspaces import Section, Workspace
    except ImportError as error:
        raise ValueError(
            'task=dashboard needs the package wandb-workspaces: pip install -e ".[dashboard]"'
        ) from error

    # one section for what is seen together
    curves = [panels.LinePlot(title=title, x=STEP, y=keys) for title, keys in CURVES.items()]
    scores = [
        panels.BarPlot(title=f"mIoU of {title}", metrics=[panels.SummaryMetric(k) for k in keys])
        for title, keys in SCORES.items()
    ]
    pictures = [
        panels.MediaBrowser(title=title, media_keys=keys) for title, keys in PICTURES.items()
    ]
    sections = {"final scores": scores, "learning": curves, "pictures": pictures}
    return Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[Section(name=key, panels=held, is_open=True) for key, held in sections.items()],
    )
