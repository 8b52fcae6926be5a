"""Options that need no file each: `conf/loss.yaml` holds those of `loss=`, side by side.

Hydra imports this module before it composes anything. Where an option is longer than some lines,
its group is a folder, `conf/network/`, with a file for each.
"""

from __future__ import annotations

import re
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

CONF = Path(__file__).parents[2]
PACKAGE = re.compile(r"# @package (\S+)")


def store_options() -> None:
    """Give Hydra the options of each file at the top of `conf/` but the doors' own.

    A dot in the name of a file stands for the slash of its group.
    """
    store = ConfigStore.instance()
    for path in sorted(CONF.glob("*.yaml")):
        options = OmegaConf.to_container(OmegaConf.load(path))
        if "defaults" in options:  # train, infer, and what they share
            continue
        group, package = path.stem.replace(".", "/"), PACKAGE.match(path.read_text("utf-8"))
        for name, node in options.items():
            store.store(name, node, group, package and package[1], provider=path.name)


store_options()
