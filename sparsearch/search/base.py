"""The ask/tell protocol: a searcher sees a search space and numbers, and asks for evaluations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.search.front import Front
from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.repair import uniform
from sparsearch.space.sensitivities import Sensitivities
from sparsearch.space.space import FloatArray, SearchSpace
from sparsearch.space.statistics import STATISTICS


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
        start: a feasible allocation to start from, for searchers that take one (`Searcher.takes_start`).
        sensitivities: whether the objective has any, so that `Sense` can be answered.
    """

    space: SearchSpace
    limits: Limits
    sequences: int
    tokens: int
    errors: FloatArray | None = None
    start: Allocation | None = None
    sensitivities: bool = True

    def first(self) -> Allocation:
        """`start`; where none is given, the uniform allocation."""
        return uniform(self.space, self.limits) if self.start is None else self.start


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Asks for the objective of every allocation on every sequence.

    The answer is a float64 array `[len(allocations), len(sequences)]`.
    """

    allocations: tuple[Allocation, ...]
    sequences: tuple[int, ...]

    @property
    def forwards(self) -> int:
        """Cost in forwards of one sequence, if nothing is known yet."""
        return len(self.allocations) * len(self.sequences)


@dataclass(frozen=True, slots=True)
class Sense:
    """Asks for the sensitivities of the objective at one allocation.

    The answer is a `Sensitivities`. It costs one forward and `gradient + draws` backwards per sequence.

    Attributes:
        gradient: whether the first-order table is wanted.
        draws: Gauss-Newton features per sequence.
    """

    allocation: Allocation
    sequences: tuple[int, ...]
    gradient: bool = True
    draws: int = 1

    @property
    def allocations(self) -> tuple[Allocation, ...]:
        """The one allocation."""
        return (self.allocation,)

    @property
    def forwards(self) -> int:
        """Cost in forwards of one sequence, a backward counted as two."""
        return len(self.sequences) * (1 + 2 * (int(self.gradient) + self.draws))


@dataclass(frozen=True, slots=True)
class Measure:
    """Asks for a statistic of the dense model, one of `sparsearch.space.statistics.STATISTICS`.

    The answer is a float64 array `[sites]` or `[sites, max levels]`, as the statistic says.

    Attributes:
        sequences: of the panel; empty where the weights alone are looked at.
        parameters: names and values of the formula's own, sorted by name.
        passes: forwards of each sequence that it takes, a backward counted as two.
    """

    statistic: str
    sequences: tuple[int, ...] = ()
    parameters: tuple[tuple[str, float], ...] = ()
    passes: int = 0

    @property
    def forwards(self) -> int:
        """Cost in forwards of one sequence, a backward counted as two."""
        return self.passes * len(self.sequences)


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Asks for a supernet that is built around one allocation; whatever is asked next is answered on it.

    An allocation on two supernets is two models, so no value from before stands for it any longer. The answer is
    float64 `[sites, max levels]`, the new output errors, as `Problem.errors` or all `nan` where that is None.
    """

    allocation: Allocation

    @property
    def allocations(self) -> tuple[Allocation, ...]:
        """The one allocation."""
        return (self.allocation,)

    @property
    def forwards(self) -> int:
        """No sequence of the panel is looked at."""
        return 0


Request = Evaluate | Sense | Measure | Rebuild
Answer = FloatArray | Sensitivities


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a searcher is: `done` of `total` steps, and the best allocation that it stands by now."""

    done: int
    total: int
    incumbent: Allocation | None


Steps = Generator[Request, Any, Allocation]
"""Yields requests and is sent the answer of each: `Sensitivities` for `Sense`, an array for the others."""


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
    objective: ClassVar[str] = "kl"
    """What a job minimises that names this searcher and no objective."""
    options_type: ClassVar[type[Options]] = Options
    needs_errors: ClassVar[bool] = False
    """Whether it needs `Problem.errors` whatever its options."""
    needs_sensitivities: ClassVar[bool] = False
    """Whether it asks for sensitivities whatever its options."""
    insensitive: ClassVar[str] = ""
    """The option, such as `basis: curve`, with which it asks for none where its default asks for them."""
    takes_start: ClassVar[bool] = False
    """Whether it starts from `Problem.start`, where there is one."""

    def __init__(self, problem: Problem, options: Options, rng: np.random.Generator) -> None:
        self.problem = problem
        self.options = options
        self.rng = rng
        self.progress = Progress(0, 1, None)
        self.outcome = ""  # why it ended, where it stops by itself
        self.front: Front | None = None  # once it is over, where it looks for one
        self._steps: Steps | None = None
        self._asked: Request | None = None
        self._best: Allocation | None = None

    @abstractmethod
    def steps(self) -> Steps:
        """The algorithm: yields requests, is sent their answers, returns the allocation that it found."""

    def ask(self) -> Request | None:
        """What is wanted next, or None when the search is over. Asking again repeats the request."""
        if self._steps is None:
            self._steps = self.steps()
            self._advance(None)
        return self._asked

    def tell(self, answer: Answer) -> None:
        """Answers the pending request: `[allocations, sequences]` values, sensitivities, or a statistic.

        Raises:
            ValueError: nothing was asked, or the answer is not of the kind or shape that was.
        """
        if self._asked is None:
            raise ValueError("tell without a pending request; call ask first")
        wanted, found = _shapes(self._asked, self.problem.space), _found(answer)
        if found != wanted:
            raise ValueError(f"the answer has shape {found}, the request wants {wanted}")
        self._advance(answer)

    @classmethod
    def wants_errors(cls, options: Options) -> bool:
        """Whether it needs `Problem.errors` with these options."""
        return cls.needs_errors

    @classmethod
    def wants_sensitivities(cls, options: Options) -> bool:
        """Whether it asks for sensitivities with these options."""
        return cls.needs_sensitivities

    @property
    def evaluations(self) -> int | None:
        """Sequences that it will evaluate at most, over all allocations; None where it stops by itself."""
        return None

    @property
    def front_resources(self) -> tuple[str, ...]:
        """Resources that it searches a front of, besides the objective; none where it looks for one allocation."""
        return ()

    @property
    def rebuilds(self) -> int:
        """How many supernets it asks for at most, besides the one that the job has built."""
        return 0

    @property
    def best(self) -> Allocation:
        """The final allocation, once `ask` has returned None."""
        if self._best is None:
            raise ValueError("the search is not over")
        return self._best

    def _advance(self, answer: Answer | None) -> None:
        assert self._steps is not None
        try:
            self._asked = next(self._steps) if answer is None else self._steps.send(answer)
        except StopIteration as end:
            self._asked, self._best = None, end.value


def _shapes(request: Request, space: SearchSpace) -> tuple[object, ...]:
    """Shape of the answer to `request`, of both tables for sensitivities."""
    if isinstance(request, Evaluate):
        return len(request.allocations), len(request.sequences)
    if isinstance(request, Measure):
        return STATISTICS[request.statistic].shape(space)
    if isinstance(request, Rebuild):
        return space.valid.shape
    count, tail = len(request.sequences), space.valid.shape
    gradient = (count, *tail) if request.gradient else None
    return gradient, (count * request.draws, *tail) if request.draws else None


def _found(answer: Answer) -> tuple[object, ...]:
    if isinstance(answer, Sensitivities):
        return tuple(None if table is None else table.shape for table in (answer.gradient, answer.features))
    return answer.shape


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
