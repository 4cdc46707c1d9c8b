"""What searchers of a few coefficients share: options, how coefficients become allocations, what these are worth."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.search.base import Evaluate, Options, Problem, Request, Searcher, Sense
from sparsearch.search.basis import Basis, curve_allocation, scaled_allocation
from sparsearch.search.checks import positive_integer
from sparsearch.search.surrogate import fisher_costs
from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.space import FloatArray

SPANS = {"curve": 0.4, "fisher": 1.0}
"""Bases, and the default of `span` in each: in sparsity, and in natural logarithms of factors."""

PATIENCE = 50
"""Trials in a row that lead to known allocations only, after which the basis holds nothing new."""

Propose = Callable[[FloatArray, Limits], Allocation]


@dataclass(frozen=True, slots=True)
class CoefficientOptions(Options):
    """Options of all of them.

    Attributes:
        trials: coefficient vectors to try, the zero vector first.
        sequences: of the panel, the same ones for every allocation.
        basis: `curve`: sparsities off the uniform one. `fisher`: factors on the Fisher costs of the levels, which
            one forward and backward of the sequences at the dense model give.
        coefficients: of the curve of each kind of site over the depth; 1 is a shift alone.
        span: scale of a coefficient, divided by its degree plus 1: a bound (`tpe`, `gp`), or three standard
            deviations of the first draws (`cmaes`). Left out: 0.4 in sparsity for `curve`, 1 in natural logarithms
            for `fisher`.
    """

    trials: int = 200
    sequences: int = 32
    basis: str = "fisher"
    coefficients: int = 3
    span: float | None = None

    def __post_init__(self) -> None:
        for option in ("trials", "sequences", "coefficients"):
            positive_integer(option, getattr(self, option))
        if not isinstance(self.basis, str) or self.basis not in SPANS:
            raise ConfigError(f"searcher.basis: {self.basis!r} is no basis; {did_you_mean(str(self.basis), SPANS)}")
        if self.span is not None and not (type(self.span) in (int, float) and 0 < self.span < np.inf):
            raise ConfigError(f"searcher.span: {self.span!r} is not allowed; give a positive number")


class CoefficientSearcher(Searcher):
    """A searcher of coefficients of smooth curves over the depth (`basis`), which stand for all sites.

    Every coefficient vector becomes an allocation that meets the budget exactly; zero coefficients are the uniform
    allocation or the Fisher optimum. Vectors that lead to an allocation that is known cost nothing.
    """

    insensitive: ClassVar[str] = "basis: curve"
    options: CoefficientOptions

    def __init__(self, problem: Problem, options: Options, rng: np.random.Generator) -> None:
        super().__init__(problem, options, rng)
        self._means: dict[Allocation, float] = {}

    @classmethod
    def wants_sensitivities(cls, options: Options) -> bool:
        """For the basis `fisher`."""
        return isinstance(options, CoefficientOptions) and options.basis == "fisher"

    @property
    def evaluations(self) -> int:
        """In forwards of one sequence at most, a backward counted as two."""
        sensed = 3 if self.options.basis == "fisher" else 0
        return (1 + self.options.trials + sensed) * min(self.options.sequences, self.problem.sequences)

    def _propose(self, basis: Basis, sequences: tuple[int, ...]) -> Generator[Request, Any, Propose]:
        """How coefficients become an allocation within limits."""
        space = self.problem.space
        if self.options.basis == "curve":
            return lambda coefficients, limits: curve_allocation(space, limits, basis, coefficients)
        costs = fisher_costs((yield Sense(space.dense(), sequences, gradient=False, draws=1)))
        return lambda coefficients, limits: scaled_allocation(space, limits, basis, costs, coefficients)

    def _spans(self, basis: Basis) -> FloatArray:
        """Scale of each coefficient, `[dimensions]`."""
        span = self.options.span or SPANS[self.options.basis]
        return span / (1 + np.array(basis.degrees, dtype=np.float64))

    def _evaluate(
        self, allocations: Iterable[Allocation], sequences: tuple[int, ...]
    ) -> Generator[Request, FloatArray, bool]:
        """Learns the means of `allocations`; whether any was new."""
        fresh = tuple(allocation for allocation in dict.fromkeys(allocations) if allocation not in self._means)
        if fresh:
            means = (yield Evaluate(fresh, sequences)).mean(axis=1)
            self._means |= zip(fresh, np.where(np.isfinite(means), means, np.inf).tolist(), strict=True)
        return bool(fresh)

    @property
    def _incumbent(self) -> Allocation:
        """The best mean so far, the earlier one of equal ones."""
        return min(self._means, key=self._means.__getitem__)
