"""Compose quickly: tests choose the same few groups of options hundreds of times."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra._internal import config_loader_impl as loading
from hydra._internal.defaults_list import DefaultsList
from omegaconf import DictConfig

SOURCES = {"hydra.conf", str(Path(__file__).parents[1] / "conf"), ""}  # they stay as they are


def merge_choices_once(patch: pytest.MonkeyPatch) -> None:
    """Let Hydra merge the files of the same choices once; single values are set on a copy.

    Hydra has no public place for this, and needs most of a second for its seventy files, twice
    in a run.
    """
    list_defaults = loading.create_defaults_list
    merge = loading.ConfigLoaderImpl._compose_config_from_defaults_list
    listed: dict[tuple[Any, ...], DefaultsList] = {}
    merged: dict[int, DictConfig] = {}

    def list_once(
        repo: Any, config_name: str | None, overrides_list: list[Any], **how: bool
    ) -> DefaultsList:
        groups = [word for word in overrides_list if repo.group_exists(word.key_or_group)]
        ours = {source.path for source in repo.get_sources()} <= SOURCES
        if not ours or any(isinstance(word.value(), dict) for word in groups):
            return list_defaults(repo, config_name, overrides_list, **how)
        key = (config_name, *(word.input_line for word in groups), *how.items())
        if key not in listed:
            listed[key] = list_defaults(repo, config_name, groups, **how)
        found = copy.copy(listed[key])
        lines = {word.input_line for word in groups}
        values = [word for word in overrides_list if word.input_line not in lines]
        found.config_overrides = [word for word in values if not word.is_sweep_override()]
        return found

    def merge_once(loader: Any, defaults: list[Any], repo: Any) -> DictConfig:
        if all(found.defaults is not defaults for found in listed.values()):
            return merge(loader, defaults, repo)
        if id(defaults) not in merged:
            merged[id(defaults)] = merge(loader, defaults, repo)
        return copy.deepcopy(merged[id(defaults)])

    patch.setattr(loading, "create_defaults_list", list_once)
    patch.setattr(loading.ConfigLoaderImpl, "_compose_config_from_defaults_list", merge_once)


def read_once(load: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let `OmegaConf.load` parse each file once."""
    parsed: dict[tuple[str, int, int], Any] = {}

    def load_once(source: Any) -> Any:
        path = Path(source if isinstance(source, str | Path) else source.name)
        state = path.stat()
        key = (str(path), state.st_mtime_ns, state.st_size)
        if key not in parsed:
            parsed[key] = load(source)
        return copy.deepcopy(parsed[key])

    return load_once
