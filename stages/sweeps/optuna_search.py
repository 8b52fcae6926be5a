"""Let Optuna propose what a sweep tries next: sweep=prompts_optuna."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stages.sweeps.searches import STUDY_FILE, Axis, Choices, Point

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.samplers import BaseSampler
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError as missing:
    raise ImportError(
        'a search by Optuna needs the extra `sweeps`: pip install -e ".[sweeps]"'
    ) from missing

BEST = 5  # jobs whose settings are compared with those of the others


class OptunaSearch:
    """What a sampler proposes after all it has seen; the study lies in the sweep's folder.

    A trial that was running when the sweep was killed is proposed again first. A failed one counts
    as tried. Ours because Optuna's retry needs a database with heartbeats, and gives the repeated
    trial a new number, which would change what is proposed next.
    """

    def __init__(
        self, trials: int, at_once: int, seed: int, sampler: Callable[..., BaseSampler]
    ) -> None:
        self.trials = trials
        self.at_once = at_once
        self.seed = seed
        self.sampler = sampler
        self.killed: list[FrozenTrial] = []
        self.asked: list[FrozenTrial | Trial] = []

    def open(self, axes: Mapping[str, Axis], folder: Path) -> None:
        """Start the study of the sweep folder, or go on with it.

        Raises:
            ValueError: when the study there is one of other settings.
        """
        # open the study
        self.study = open_study(folder)
        self.distributions = {key: describe_axis(axis) for key, axis in axes.items()}
        trials = self.study.get_trials(deepcopy=False)
        refuse_other_settings(folder, trials, self.distributions)

        # a sampler that starts again from the same seed would repeat its proposals
        self.study.sampler = self.sampler(seed=self.seed + len(trials))

        # trials without an end were killed, some while they were being proposed
        for trial in trials:
            if trial.state.is_finished():
                continue
            if trial.distributions == self.distributions:
                self.killed.append(trial)
            else:
                self.study.tell(trial.number, state=TrialState.FAIL)

    def ask(self) -> list[Point]:
        """Propose the killed trials, then `at_once` new ones until there are `trials`."""
        if self.killed:
            self.asked = list(self.killed)
            self.killed.clear()
        else:
            left = self.trials - len(self.study.get_trials(deepcopy=False))
            count = max(0, min(left, self.at_once))
            self.asked = [self.study.ask(self.distributions) for _ in range(count)]
        return [{key: str(trial.params[key]) for key in self.distributions} for trial in self.asked]

    def tell(self, values: Sequence[float | None]) -> None:
        """Enter the values in the study."""
        for trial, value in zip(self.asked, values, strict=True):
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            self.study.tell(trial.number, value, state)


def open_study(folder: Path) -> optuna.Study:
    """Open the study of a sweep folder, or start one."""
    backend = JournalFileBackend(str(folder / STUDY_FILE))
    return optuna.create_study(
        storage=JournalStorage(backend),
        study_name="sweep",
        direction="maximize",
        load_if_exists=True,
    )


def describe_axis(axis: Axis) -> BaseDistribution:
    """Describe an axis to Optuna."""
    if isinstance(axis, Choices):
        return CategoricalDistribution(axis.values)
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def refuse_other_settings(
    folder: Path, trials: Sequence[FrozenTrial], distributions: Mapping[str, BaseDistribution]
) -> None:
    """Raise ValueError when a study has complete trials of other settings, naming these."""
    for trial in trials:
        known = trial.distributions
        if trial.state != TrialState.COMPLETE or known == distributions:
            continue
        keys = sorted(known.keys() | distributions.keys())
        other = ", ".join(key for key in keys if known.get(key) != distributions.get(key))
        raise ValueError(
            f"{folder / STUDY_FILE} is a study of other settings ({other}): repeat those, or start "
            "another one with hydra.sweep.dir=DIR"
        )


def find_importance(folder: Path) -> dict[str, float]:
    """Find how much each setting tells the best jobs of a sweep from the others, the most first.

    PED-ANOVA (Watanabe et al., IJCAI 2023); fANOVA would need scikit-learn. Shares sum to one;
    there are none before the best ones stand against twice as many others.
    """
    study = open_study(folder)
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    varied = {
        key for trial in done for key, axis in trial.distributions.items() if not axis.single()
    }
    if len(done) < 3 * BEST or not varied:
        return {}
    evaluator = PedAnovaImportanceEvaluator(target_quantile=BEST / len(done))
    return get_param_importances(study, evaluator=evaluator, params=sorted(varied))
