"""SPDY: a search over sensitivity coefficients of the sites with an exact knapsack inside."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sparsearch.errors import ConfigError
from sparsearch.search.base import Evaluate, Options, Progress, Searcher, Steps
from sparsearch.search.checks import one_of, positive_integer
from sparsearch.search.scores import Scores, draw_sequences
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import cheapest
from sparsearch.space.space import FloatArray, SearchSpace

PRIORS = ("kept", "levels")

BATCH = 16  # allocations in one request of the random phase

LEAST_KEPT = 0.01
"""Fraction of the weights that the sparsest level of the published grid keeps."""


@dataclass(frozen=True, slots=True)
class SPDYOptions(Options):
    """Options of `spdy`; the defaults are the published ones, but for the number of sequences.

    Attributes:
        prior: how a site's cost grows with its level: `kept`, as on the published grid, or `levels`.
        vectors: coefficient vectors in the random phase, the one of equal coefficients included.
        share: of the coefficients that the local search resamples at first.
        patience: trials in a row without a gain after which it resamples one coefficient fewer.
        sequences: of the panel that every allocation is evaluated on.
    """

    prior: str = "kept"
    vectors: int = 100
    share: float = 0.1
    patience: int = 100
    sequences: int = 16

    def __post_init__(self) -> None:
        one_of("prior", self.prior, PRIORS)
        for option in ("vectors", "patience", "sequences"):
            positive_integer(option, getattr(self, option))
        fraction = not isinstance(self.share, bool) and isinstance(self.share, int | float) and 0 < self.share <= 1
        if not fraction:
            raise ConfigError(f"searcher.share: {self.share!r} is not allowed; give a number above 0 and up to 1")


@dataclass(frozen=True, eq=False)
class Trial:
    """A coefficient vector `[sites]`, the allocation that it stands for, and its mean objective."""

    vector: FloatArray
    allocation: Allocation
    mean: float


class SPDY(Searcher):
    """Random and local search over one sensitivity coefficient a site, each vector solved to an allocation exactly.

    Frantar & Alistarh, "SPDY: Accurate Pruning with Speedup Guarantees" (ICML 2022). A vector c in [0, 1]^sites
    stands for the allocation with the least

        sum_u c_u * size_u * prior[u, level_u]

    within the limits, so every vector meets the budget, and the search is for the vector whose allocation has the
    least objective: first `vectors` random ones, then a local search that resamples k random coefficients of the
    best, k from `share` of the sites down to 1, each until `patience` trials in a row gain nothing. The prior is
    the square of the index over the last index, `levels`, or the same on the published grid, whose levels each keep
    the same fraction of the level before: `kept`, `(log kept / log 0.01)^2`, at most 1.

    Vectors with equal allocations are evaluated once. A trial costs `sequences` forwards and a knapsack (about
    0.1 s for 224 sites); `share` * sites * `patience` trials at least, so several thousand for hundreds of sites.

    Other than in the paper, coefficients are relative to the size of the site, so that equal ones give about the
    uniform allocation, which is the first vector; without that large sites, which save most, would end sparsest.
    The knapsack is exact and takes several bounds in place of one dynamic programme over 10,000 buckets of time;
    and an allocation is evaluated on 16 sequences of the panel in place of 1024 images.
    """

    name: ClassVar[str] = "spdy"
    options_type: ClassVar[type[Options]] = SPDYOptions
    options: SPDYOptions

    def steps(self) -> Steps:
        """Random vectors in batches, then single trials."""
        self._costs = prior_costs(self.problem.space, self.options.prior)
        scores = Scores(draw_sequences(self.problem, self.options.sequences, self.rng))
        best = yield from self._random(scores)
        for count in range(math.ceil(self.options.share * len(best.vector)), 0, -1):
            best = yield from self._local(scores, best, count)
        return best.allocation

    def _random(self, scores: Scores) -> Generator[Evaluate, FloatArray, Trial]:
        """The best of equal coefficients and random ones."""
        vectors = self.rng.random((self.options.vectors, len(self.problem.space)))
        vectors[0] = 1.0
        best: Trial | None = None
        for start in range(0, len(vectors), BATCH):
            trials = yield from self._try(scores, vectors[start : start + BATCH])
            winner = min(trials, key=lambda trial: trial.mean)
            best = winner if best is None or winner.mean < best.mean else best
            self._note(len(trials), best, len(vectors) - start - len(trials))
        assert best is not None
        return best

    def _local(self, scores: Scores, best: Trial, count: int) -> Generator[Evaluate, FloatArray, Trial]:
        """The best vector once resampling `count` coefficients has stopped to help."""
        failures = 0
        while failures < self.options.patience:
            vector = best.vector.copy()
            vector[self.rng.choice(len(vector), size=count, replace=False)] = self.rng.random(count)
            trial = (yield from self._try(scores, vector[None]))[0]
            failures = 0 if trial.mean < best.mean else failures + 1
            best = trial if trial.mean < best.mean else best
            self._note(1, best, count * self.options.patience - failures)
        return best

    def _try(self, scores: Scores, vectors: FloatArray) -> Generator[Evaluate, FloatArray, list[Trial]]:
        space, limits = self.problem.space, self.problem.limits
        allocations = [cheapest(space, limits, vector[:, None] * self._costs) for vector in vectors]
        means = yield from scores.means(allocations)
        return [Trial(*parts) for parts in zip(vectors, allocations, means.tolist(), strict=True)]

    def _note(self, trials: int, best: Trial, left: int) -> None:
        done = self.progress.done + trials
        self.progress = Progress(done, done + left, best.allocation)


def prior_costs(space: SearchSpace, prior: str) -> FloatArray:
    """What a level costs at a coefficient of 1, `[sites, max levels]`: share of the weights times the prior."""
    if prior == "levels":
        fractions = np.arange(space.valid.shape[1]) / np.maximum(space.counts - 1, 1)[:, None]
    else:
        kept = np.clip(1.0 - np.nan_to_num(space.sparsities), LEAST_KEPT, 1.0)
        fractions = np.log(kept) / np.log(LEAST_KEPT)
    sizes = np.array([site.size for site in space.sites], dtype=np.float64)
    return fractions**2 * (sizes / sizes.sum())[:, None]
