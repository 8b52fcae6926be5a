"""The sweeper of this project: goes on where it stopped, survives failed jobs, sums up at the end.

Hydra takes plugins from the namespace package `hydra_plugins` only, which lies in `conf/`.
"""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, OverrideType
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from fmawsss.files.fingerprints import fingerprint
from fmawsss.files.json_files import write_json
from fmawsss.files.writing import remove_leftovers
from stages.failures import explain
from stages.sweeps.effects import SEED
from stages.sweeps.jobs import (
    FINISHED,
    SWEEP_FILE,
    Job,
    claim_gpu,
    enter_jobs,
    lock_sweep,
    read_jobs,
    record_job,
    refuse_failures,
)
from stages.sweeps.searches import Axis, Choices, Interval, Point, Search
from stages.words import name_program

logger = logging.getLogger("stages.sweeps")
CONF = Path(__file__).parents[2]
QUIET = 5.0  # seconds between two lines about the jobs that are composed


class ResumableSweeper(Sweeper):
    """Run the points of a search as jobs of any launcher, but for those that are finished."""

    def __init__(
        self,
        params: Mapping[str, Any],
        search: Search,
        gpus: Sequence[int] | None,
        summarise: Callable[[Path], Any],
    ) -> None:
        self.params = dict(params)
        self.search = search
        self.gpus = gpus
        self.summarise = summarise

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Give the launcher a task that records how each job ended."""
        self.hydra_context = hydra_context
        self.config = config
        self.parser = OverridesParser.create(config_loader=hydra_context.config_loader)

        # fresh processes of a launcher (SLURM) find our packages, and this plugin, from anywhere
        python_path = map(str, [CONF.parent, CONF, *read_python_path()])
        os.environ["PYTHONPATH"] = os.pathsep.join(python_path)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context,
            task_function=RecordedTask(task_function, self.gpus),
            config=config,
        )

    def sweep(self, arguments: list[str]) -> list[Job]:
        """Run the sweep.

        Raises:
            ValueError: when nothing names the split to choose by, and for debug=.
            RuntimeError: when everything else is done, naming the jobs that failed.
        """
        if (debug := self.config.hydra.runtime.choices.get("debug")) is not None:
            raise ValueError(f"debug={debug} belongs to one run, whose folder it names: without -m")

        # read what varies
        axes = self.read_axes(arguments)
        chosen = [key for key, axis in axes.items() if key != SEED and varies(axis)]
        folder = Path(self.config.hydra.sweep.dir)

        with lock_sweep(folder):
            # say what the sweep is
            remove_leftovers(folder, deep=True)
            OmegaConf.save(self.config, folder / "multirun.yaml")
            write_json(folder / SWEEP_FILE, self.describe(folder, list(axes)))

            # try what the search proposes
            self.search.open(axes, folder)
            while points := self.search.ask():
                jobs = self.run_points(folder, points, chosen)
                self.search.tell([job.value for job in jobs])
            self.summarise(folder)
        return refuse_failures(folder)

    def read_axes(self, arguments: Sequence[str]) -> dict[str, Axis]:
        """Read what each setting may be: from the sweep's YAML, replaced by the command line."""
        typed = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        overrides = self.parser.parse_overrides(typed)
        return {override.get_key_element(): read_axis(override) for override in overrides}

    def describe(self, folder: Path, keys: Sequence[str]) -> dict[str, Any]:
        """Describe the sweep for its summary."""
        # what it is chosen by
        criterion = OmegaConf.to_container(self.config.criterion, resolve=True)
        label = str(criterion.pop("_target_")).rpartition("read_")[2]
        for place in criterion.keys() & {"scores", "product"}:
            del criterion[place]
        given = [f"{key} {value}" for key, value in criterion.items() if value is not None]

        # which settings are groups of the config
        groups = self.hydra_context.config_loader.get_group_options
        program = name_program(self.config.hydra.job.name)
        return {
            "title": f"sweep {folder.name}",
            "program": program,
            "command": shlex.join([*program.split(), "-m", *list_typed(self.config.hydra)]),
            "label": label,
            "criterion": ", ".join(given),
            "groups": [key for key in keys if groups(key.partition("@")[0].lstrip("+"))],
        }

    def compose_jobs(self, overrides: Sequence[Sequence[str]]) -> Iterator[DictConfig]:
        """Compose the config of each job, to be read before the next; tell when that takes long.

        Hydra takes half a second. Jobs that choose the same options of groups are composed once,
        and their values are set in one config after the other.
        """
        composed: dict[tuple[str, ...], DictConfig] = {}
        list_options = cache(self.hydra_context.config_loader.get_group_options)  # copies all YAML
        told = time.monotonic()
        for number, job in enumerate(overrides):
            if time.monotonic() - told > QUIET:
                told = time.monotonic()
                logger.info("%d of %d jobs composed", number, len(overrides))

            # a config for each choice of options, and the values of this job
            read = {word: self.parser.parse_override(word) for word in job}
            values = {word: read_value(found, list_options) for word, found in read.items()}
            kept = tuple(w if found is None else found[0] for w, found in values.items())
            if kept not in composed:
                composed[kept] = self.compose(job)
            for key, value in filter(None, values.values()):
                OmegaConf.update(composed[kept], key, value)
            yield composed[kept]

    def run_points(self, folder: Path, points: Sequence[Point], chosen: Sequence[str]) -> list[Job]:
        """Run the jobs of a batch that are not finished; return all of them as they ended."""
        from stages.sweeps.criteria import refuse_unnamed_split  # --help goes without

        # a typo shows before anything runs
        overrides = [[f"{key}={value}" for key, value in point.items()] for point in points]
        wanted, anew = [], []
        for words, cfg in zip(overrides, self.compose_jobs(overrides), strict=True):
            refuse_unnamed_split(OmegaConf.to_container(cfg.criterion, resolve=True), chosen)
            wanted.append((words, digest_config(cfg)))
            anew.append(cfg.options.overwrite)

        # find the jobs that are missing
        jobs = enter_jobs(folder, wanted)
        missing = {
            job.number: job
            for job, overwrite in zip(jobs, anew, strict=True)
            if job.status != FINISHED or overwrite
        }
        logger.info("%s: %d jobs, %d finished before", folder, len(jobs), len(jobs) - len(missing))

        # run them
        if missing:
            self.launch(list(missing.values()))
        ended = {job.number: job for job in read_jobs(folder)}
        return [ended[job.number] for job in jobs]

    def launch(self, jobs: Sequence[Job]) -> None:
        """Run jobs and wait; those that died with their machine are reported at the end."""
        overrides = [[*job.overrides, f"hydra.sweep.subdir={job.number}"] for job in jobs]
        first = min(job.number for job in jobs)
        try:
            self.launcher.launch(overrides, initial_job_idx=first)
        except Exception as error:
            said = " ".join(explain(error))
            logger.error("the launcher gave up on a job that left no record: %s", said)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Compose the config of a job."""
        return self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))


class RecordedTask:
    """A task that records in its job's folder how it ended, on whichever machine it runs."""

    def __init__(self, task: TaskFunction, gpus: Sequence[int] | None) -> None:
        self.task = task
        self.gpus = gpus

    def __call__(self, cfg: DictConfig) -> float | None:
        """Run the task, on a GPU of its own where several are given."""
        folder = Path(HydraConfig.get().runtime.output_dir)
        if not self.gpus:
            return record_job(folder, partial(self.task, cfg))
        with claim_gpu(folder.parent, self.gpus) as gpu:
            cfg.trainer.devices = [gpu]
            return record_job(folder, partial(self.task, cfg))


def read_axis(override: Override) -> Axis:
    """Read one override of the command line: a value, several (1,2,4), or an interval(1,4).

    Raises ValueError for several that are none: range(3,3).
    """
    if not override.is_sweep_override():
        return Choices((override.get_value_element_as_str(),))
    if override.is_discrete_sweep():
        values = tuple(override.sweep_string_iterator())
        if not values:
            raise ValueError(f"{override.input_line} holds no value: name one or more to try")
        return Choices(values)
    span = override.value()
    assert isinstance(span, IntervalSweep)
    return Interval(span.start, span.end, log="log" in span.tags, whole=isinstance(span.start, int))


def read_value(
    override: Override, list_options: Callable[[str], list[str]]
) -> tuple[str, Any] | None:
    """Read key and value of an override that sets a plain value; None for one that chooses."""
    key, value = override.key_or_group, override.value()
    plain = override.type is OverrideType.CHANGE and not override.package
    return (key, value) if plain and not isinstance(value, dict) and not list_options(key) else None


def list_typed(hydra: DictConfig) -> list[str]:
    """List what a sweep was started with, but for `-m`: Hydra's own settings are included."""
    sources = hydra.runtime.config_sources
    added = [source.path for source in sources if source.provider == "command-line"]
    own = [override for override in hydra.overrides.hydra if not override.startswith("hydra.mode=")]
    return [*(f"--config-dir={path}" for path in added), *hydra.overrides.task, *own]


def varies(axis: Axis) -> bool:
    """Say whether an axis has more than one value."""
    return isinstance(axis, Interval) or len(axis.values) > 1


def digest_config(cfg: DictConfig) -> str:
    """Digest the config of a job: the same digest, the same job."""
    settings: Any = OmegaConf.to_container(cfg)
    del settings["hydra"], settings["options"]["overwrite"]
    return fingerprint(settings)


def read_python_path() -> list[str]:
    """List the folders of PYTHONPATH but for our own."""
    known = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return [folder for folder in known if folder not in (str(CONF.parent), str(CONF))]
