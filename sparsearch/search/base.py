"""The ask/tell protocol: a searcher sees a search space and numbers, and asks for evaluations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.space import FloatArray, SearchSpace


@dataclass(frozen=True, eq=False)
class Problem:
    """What a searcher is asked to solve: minimise the mean objective over the panel within the limits.

    Attributes:
        space: sites, levels and costs.
        limits: the budget, resolved for the space.
        sequences: number of sequences in the search panel; an evaluation names them by index.
        tokens: tokens of one sequence.
        errors: `[sites, max levels]`, relative output error of each variant on the calibration panel; None
            where the supernet has none, `nan` where invalid.
    """

    space: SearchSpace
    limits: Limits
    sequences: int
    tokens: int
    errors: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Asks for the objective of every allocation on every sequence.

    The answer is a float64 array `[len(allocations), len(sequences)]`.
    """

    allocations: tuple[Allocation, ...]
    sequences: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a searcher is: `done` of `total` steps, and the best allocation that it stands by now."""

    done: int
    total: int
    incumbent: Allocation | None


Steps = Generator[Evaluate, FloatArray, Allocation]


@dataclass(frozen=True, slots=True)
class Options:
    """Base of a searcher's own options, one field each. Subclasses validate in `__post_init__`."""


class Searcher(ABC):
    """Proposes allocations and is told their evaluations.

    A searcher is a deterministic function of (problem, options, rng, answers): resume is the same searcher
    again, answered from the journal. Subclasses write the algorithm as one generator, `steps`, which yields
    requests, receives their answers and returns the final allocation; `ask` and `tell` drive it.
    """

    name: ClassVar[str]
    options_type: ClassVar[type[Options]] = Options
    needs_errors: ClassVar[bool] = False
    """Whether it needs `Problem.errors`."""

    def __init__(self, problem: Problem, options: Options, rng: np.random.Generator) -> None:
        self.problem = problem
        self.options = options
        self.rng = rng
        self.progress = Progress(0, 1, None)
        self._steps: Steps | None = None
        self._asked: Evaluate | None = None
        self._best: Allocation | None = None

    @abstractmethod
    def steps(self) -> Steps:
        """The algorithm: yields requests, is sent their answers, returns the allocation that it found."""

    def ask(self) -> Evaluate | None:
        """The evaluations wanted next, or None when the search is over. Asking again repeats the request."""
        if self._steps is None:
            self._steps = self.steps()
            self._advance(None)
        return self._asked

    def tell(self, values: FloatArray) -> None:
        """Answers the pending request with `[allocations, sequences]` values.

        Raises:
            ValueError: nothing was asked, or the array has another shape.
        """
        if self._asked is None:
            raise ValueError("tell without a pending request; call ask first")
        wanted = (len(self._asked.allocations), len(self._asked.sequences))
        if values.shape != wanted:
            raise ValueError(f"the answer has shape {values.shape}, the request wants {wanted}")
        self._advance(values)

    @property
    def evaluations(self) -> int | None:
        """Sequences that it will evaluate at most, over all allocations; None where it stops by itself."""
        return None

    @property
    def best(self) -> Allocation:
        """The final allocation, once `ask` has returned None."""
        if self._best is None:
            raise ValueError("the search is not over")
        return self._best

    def _advance(self, values: FloatArray | None) -> None:
        assert self._steps is not None
        try:
            self._asked = next(self._steps) if values is None else self._steps.send(values)
        except StopIteration as end:
            self._asked, self._best = None, end.value


def make_options(searcher: type[Searcher], given: dict[str, Any]) -> Options:
    """The options of `searcher` from a job file's mapping.

    Raises:
        ConfigError: an option that it does not have, or a bad value.
    """
    allowed = [field.name for field in fields(searcher.options_type)]
    for key in given:
        if key not in allowed:
            known = did_you_mean(key, allowed) if allowed else "it has no options"
            raise ConfigError(f"searcher.{key}: {searcher.name} has no such option; {known}")
    return searcher.options_type(**given)
