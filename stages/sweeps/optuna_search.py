"""Let Optuna propose what a sweep tries next: sweep=prompts_optuna."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.sweeps.searches import Axis, Choices, Point

try:
    import optuna
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState
except ImportError as missing:
    raise ImportError(
        'a search by Optuna needs the extra `sweeps`: pip install -e ".[sweeps]"'
    ) from missing


class OptunaSearch:
    """What a sampler proposes after all it has seen; the study lies in the sweep folder, as
    `study.jsonl`.

    A trial that was running when the sweep was killed is proposed again first. A failed one counts
    as tried.
    """

    def __init__(self, trials: int, at_once: int, seed: int, sampler: Callable[..., Any]) -> None:
        self.trials = trials
        self.at_once = at_once
        self.seed = seed
        self.sampler = sampler
        self.killed: list[Any] = []
        self.asked: list[Any] = []

    def open(self, axes: Mapping[str, Axis], folder: Path) -> None:
        """Start the study of the sweep folder, or go on with it.

        Raises:
            ValueError: when the study there is one of other settings.
        """
        path = folder / "study.jsonl"
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        self.study = optuna.create_study(
            storage=storage, study_name="sweep", direction="maximize", load_if_exists=True
        )
        trials = self.study.get_trials(deepcopy=False)
        # a sampler that starts again from the same seed would propose again what it proposed before
        self.study.sampler = self.sampler(seed=self.seed + len(trials))
        self.distributions = {key: describe_axis(axis) for key, axis in axes.items()}
        for trial in trials:
            whole = trial.distributions == self.distributions
            if not trial.state.is_finished() and whole:
                self.killed.append(trial)
            elif not trial.state.is_finished():  # killed while it was being proposed
                self.study.tell(trial.number, state=TrialState.FAIL)
            elif not whole and trial.state == TrialState.COMPLETE:
                raise ValueError(
                    f"{path} is a study of other settings "
                    f"({describe_difference(trial, self.distributions)}): repeat "
                    "those, or start another one with hydra.sweep.dir=DIR"
                )

    def ask(self) -> list[Point]:
        """Propose the killed trials, then `at_once` new ones until there are `trials`."""
        known = len(self.study.get_trials(deepcopy=False))
        new = 0 if self.killed else max(0, min(self.trials - known, self.at_once))
        self.asked, self.killed = (
            [*self.killed, *(self.study.ask(self.distributions) for _ in range(new))],
            [],
        )
        return [{key: str(trial.params[key]) for key in self.distributions} for trial in self.asked]

    def tell(self, values: Sequence[float | None]) -> None:
        """Enter the values in the study."""
        for trial, value in zip(self.asked, values, strict=True):
            self.study.tell(
                trial.number, value, TrialState.FAIL if value is None else TrialState.COMPLETE
            )


def describe_axis(axis: Axis) -> optuna.distributions.BaseDistribution:
    """Describe an axis to Optuna."""
    if isinstance(axis, Choices):
        return optuna.distributions.CategoricalDistribution(axis.values)
    if axis.whole:
        return optuna.distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)


def describe_difference(trial: optuna.trial.FrozenTrial, distributions: Mapping[str, Any]) -> str:
    """Name the settings in which a trial's space differs."""
    keys = trial.distributions.keys() | distributions.keys()
    return ", ".join(
        sorted(key for key in keys if trial.distributions.get(key) != distributions.get(key))
    )
