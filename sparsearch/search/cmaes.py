"""CMA-ES: evolution of a normal distribution over the coefficients of a low-dimensional basis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.stats import rankdata

from sparsearch.search.base import Evaluate, Options, Progress, Searcher, Steps
from sparsearch.search.basis import depth_basis
from sparsearch.search.bayesian import PATIENCE, check_basis, coefficient_bounds, proposer
from sparsearch.search.checks import positive_integer
from sparsearch.search.scores import draw_sequences
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import uniform
from sparsearch.space.space import FloatArray

if TYPE_CHECKING:
    from cma import CMAEvolutionStrategy

FIRST = 1 / 3
"""Standard deviation of the first draws, as a share of the bounds on the coefficients."""


@dataclass(frozen=True, slots=True)
class CMAESOptions(Options):
    """Options of `cmaes`; `basis`, `coefficients` and `span` are those of `tpe`.

    Attributes:
        trials: coefficient vectors to try, the zero vector first.
        sequences: of the panel, the same ones for every allocation.
        basis: `curve`: sparsities off the uniform one. `fisher`: factors on the Fisher costs of the levels, which
            one forward and backward of the sequences at the dense model give.
        coefficients: of the curve of each kind of site over the depth; 1 is a shift alone.
        span: three standard deviations of a coefficient's first draws, divided by its degree plus 1; left out: 0.4
            in sparsity for `curve`, 1 in natural logarithms for `fisher`.
    """

    trials: int = 200
    sequences: int = 32
    basis: str = "fisher"
    coefficients: int = 3
    span: float | None = None

    def __post_init__(self) -> None:
        for option in ("trials", "sequences", "coefficients"):
            positive_integer(option, getattr(self, option))
        check_basis(self.basis, self.span)


class CMAES(Searcher):
    """Covariance matrix adaptation of a normal distribution over a few coefficients that stand for all sites.

    Hansen, "The CMA Evolution Strategy: A Tutorial" (2016), by its author's library `cma`, with its defaults: a
    population of 4 + 3 ln(dimensions), of which the better half moves the mean, widens or narrows the steps and turns
    the covariance. The coefficients are those of `tpe`: each vector becomes an allocation that meets the budget
    exactly, and zero coefficients are the uniform allocation or the Fisher optimum; both are evaluated first. Vectors
    that lead to a known allocation cost nothing. The strategy is told ranks, which is all that it uses, so that ruined
    models without a number are merely last. It stops after `trials`, or when 50 in a row led to nothing new.

    Its own share is under a millisecond a trial for 21 coefficients.
    """

    name: ClassVar[str] = "cmaes"
    options_type: ClassVar[type[Options]] = CMAESOptions
    insensitive: ClassVar[str] = "basis: curve"
    options: CMAESOptions

    @classmethod
    def wants_sensitivities(cls, options: Options) -> bool:
        """For the basis `fisher`."""
        return isinstance(options, CMAESOptions) and options.basis == "fisher"

    @property
    def evaluations(self) -> int:
        """In forwards of one sequence at most, a backward counted as two."""
        sensed = 3 if self.options.basis == "fisher" else 0
        return (1 + self.options.trials + sensed) * min(self.options.sequences, self.problem.sequences)

    def steps(self) -> Steps:
        """The two starts, then one request a generation."""
        space, limits, options = self.problem.space, self.problem.limits, self.options
        sequences = draw_sequences(self.problem, options.sequences, self.rng)
        basis = depth_basis(space, options.coefficients)
        bounds = coefficient_bounds(options.basis, options.span, basis)
        propose = yield from proposer(self.problem, options.basis, basis, sequences)
        strategy = _strategy(bounds, self.rng) if len(bounds) else None
        points = [np.zeros(len(bounds))]
        proposals = [uniform(space, limits), propose(points[0], limits)]
        means: dict[Allocation, float] = {}
        done = stale = 0
        while True:
            fresh = tuple(each for each in dict.fromkeys(proposals) if each not in means)
            if fresh:
                found = (yield Evaluate(fresh, sequences)).mean(axis=1)
                means |= zip(fresh, np.where(np.isfinite(found), found, np.inf).tolist(), strict=True)
            if strategy is not None and len(points) == strategy.popsize:
                # The first request and a last generation that is cut short are none of its populations.
                strategy.tell(points, rankdata([means[each] for each in proposals]).tolist())
            done += len(points)
            stale = 0 if fresh else stale + len(points)
            best = min(means, key=means.__getitem__)
            self.progress = Progress(done, options.trials, best)
            if strategy is None or done >= options.trials or stale >= PATIENCE:
                return best
            points = strategy.ask()[: options.trials - done]
            proposals = [propose(point, limits) for point in points]


def _strategy(bounds: FloatArray, rng: np.random.Generator) -> CMAEvolutionStrategy:
    """A fresh one that draws from `rng` alone and prints nothing."""
    from cma import CMAEvolutionStrategy

    def randn(*shape: int) -> FloatArray:
        return rng.standard_normal(shape)

    options = {"CMA_stds": bounds, "seed": np.nan, "randn": randn, "verbose": -9}
    return CMAEvolutionStrategy(np.zeros(len(bounds)), FIRST, options)
