"""Points from Optuna's samplers; imported only where a Bayesian search runs, as Optuna takes time to load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState

from sparsearch.space.space import FloatArray


class Sampling:
    """A study in memory that is asked for points in a box and told what they are worth, all to be minimised."""

    def __init__(self, sampler: BaseSampler, ranges: Mapping[str, tuple[float, float]], objectives: int) -> None:
        self._ranges: dict[str, BaseDistribution] = {
            name: FloatDistribution(low, high) for name, (low, high) in ranges.items()
        }
        with _quiet():
            self._study = optuna.create_study(sampler=sampler, directions=["minimize"] * objectives)

    def first(self, point: FloatArray) -> None:
        """Has `point` `[dimensions]` asked before the sampler's own, behind those given earlier."""
        self._study.enqueue_trial(dict(zip(self._ranges, point.tolist(), strict=True)))

    def ask(self, count: int) -> list[tuple[Trial, FloatArray]]:
        """The next trials, each with its point `[dimensions]`."""
        with _quiet():
            trials = [self._study.ask(self._ranges) for _ in range(count)]
        return [(trial, np.array([trial.params[name] for name in self._ranges])) for trial in trials]

    def tell(self, trial: Trial, values: Sequence[float]) -> None:
        """Tells what `trial` is worth. One with a value that is not finite has failed, and samplers leave it out."""
        if np.isfinite(values).all():
            self._study.tell(trial, values)
        else:
            self._study.tell(trial, state=TrialState.FAIL)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back Optuna's messages, which mean nothing to who runs a job; the level is as before afterwards."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
