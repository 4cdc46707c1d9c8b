"""CMA-ES: evolution of a normal distribution over the coefficients of a low-dimensional basis."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from scipy.stats import rankdata

from sparsearch.search.base import Options, Progress, Steps
from sparsearch.search.basis import depth_basis
from sparsearch.search.coefficients import PATIENCE, CoefficientOptions, CoefficientSearcher
from sparsearch.search.scores import draw_sequences
from sparsearch.space.repair import uniform
from sparsearch.space.space import FloatArray

if TYPE_CHECKING:
    from cma import CMAEvolutionStrategy

FIRST = 1 / 3
"""Standard deviation of the first draws, as a share of the spans."""


class CMAES(CoefficientSearcher):
    """Covariance matrix adaptation of a normal distribution over a few coefficients that stand for all sites.

    Hansen, "The CMA Evolution Strategy: A Tutorial" (2016), by its author's library `cma`, with its defaults: a
    population of 4 + 3 ln(dimensions), of which the better half moves the mean, widens or narrows the steps and turns
    the covariance. The coefficients are those of `tpe`: each vector becomes an allocation that meets the budget
    exactly, and zero coefficients are the uniform allocation or the Fisher optimum; both are evaluated first. Vectors
    that lead to a known allocation cost nothing. The strategy is told ranks, which is all that it uses, so that ruined
    models without a number are merely last. It stops after `trials`, or when 50 in a row led to nothing new.

    Its own share is some 25 ms a trial for 84 sites, most of it the way from coefficients to an allocation.
    """

    name: ClassVar[str] = "cmaes"
    options_type: ClassVar[type[Options]] = CoefficientOptions

    def steps(self) -> Steps:
        """The two starts, then one request a generation."""
        limits, options = self.problem.limits, self.options
        sequences = draw_sequences(self.problem, options.sequences, self.rng)
        basis = depth_basis(self.problem.space, options.coefficients)
        spans = self._spans(basis)
        propose = yield from self._propose(basis, sequences)
        strategy = _strategy(spans, self.rng) if len(spans) else None
        points = [np.zeros(len(spans))]
        proposals = [uniform(self.problem.space, limits), propose(points[0], limits)]
        done = stale = 0
        while True:
            fresh = yield from self._evaluate(proposals, sequences)
            if strategy is not None and len(points) == strategy.popsize:
                # The first request and a last generation that is cut short are none of its populations.
                strategy.tell(points, rankdata([self._means[each] for each in proposals]).tolist())
            done += len(points)
            stale = 0 if fresh else stale + len(points)
            self.progress = Progress(done, options.trials, self._incumbent)
            if strategy is None or done >= options.trials or stale >= PATIENCE:
                return self._incumbent
            points = strategy.ask()[: options.trials - done]
            proposals = [propose(point, limits) for point in points]


def _strategy(spans: FloatArray, rng: np.random.Generator) -> CMAEvolutionStrategy:
    """A fresh one that draws from `rng` alone and prints nothing."""
    from cma import CMAEvolutionStrategy

    options = {"CMA_stds": spans, "seed": np.nan, "randn": lambda *shape: rng.standard_normal(shape), "verbose": -9}
    return CMAEvolutionStrategy(np.zeros(len(spans)), FIRST, options)
