"""Random search: the baseline of every searcher that evaluates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from sparsearch.errors import ConfigError
from sparsearch.search.base import Evaluate, Options, Progress, Searcher, Steps
from sparsearch.search.checks import positive_integer
from sparsearch.search.scores import draw_sequences
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import repair
from sparsearch.space.space import IntArray

BATCH = 16  # allocations in one request
ATTEMPTS = 100  # draws in a row without a new allocation that end the search


@dataclass(frozen=True, slots=True)
class RandomOptions(Options):
    """Options of `random`.

    Attributes:
        evaluations: allocations to evaluate, the first one (uniform, or the job's `warm_start`) included.
        sequences: of the panel, for each of them; all when left out.
        radius: levels that a site may lie off its level in the first one before repair; any level when left out.
        stratified: spreads the levels of each site evenly over every 16 draws.
    """

    evaluations: int = 1000
    sequences: int | None = None
    radius: int | None = None
    stratified: bool = False

    def __post_init__(self) -> None:
        positive_integer("evaluations", self.evaluations)
        for option in ("sequences", "radius"):
            if getattr(self, option) is not None:
                positive_integer(option, getattr(self, option))
        if not isinstance(self.stratified, bool):
            raise ConfigError(f"searcher.stratified: {self.stratified!r} is not allowed; give true or false")


class RandomSearch(Searcher):
    """Random allocations and a first one, uniform if none is given, on the same sequences; the best mean wins.

    Levels are drawn independently for each site, each one equally likely, and repaired to the budget by random
    steps. `stratified` draws them by Latin hypercube sampling (McKay, Beckman & Conover, "A Comparison of Three
    Methods for Selecting Values of Input Variables", 1979): of 16 draws each site has one in each sixteenth of its
    levels, in an order of its own. Repair then moves them, so that the strata are those of the wishes. An
    allocation costs one forward of every sequence.
    """

    name: ClassVar[str] = "random"
    options_type: ClassVar[type[Options]] = RandomOptions
    takes_start: ClassVar[bool] = True
    options: RandomOptions

    @property
    def evaluations(self) -> int:
        """Sequences that it will evaluate at most, over all allocations."""
        return self.options.evaluations * self._sequences

    @property
    def _sequences(self) -> int:
        return min(self.options.sequences or self.problem.sequences, self.problem.sequences)

    def steps(self) -> Steps:
        """Batches of distinct allocations on one set of sequences."""
        sequences = draw_sequences(self.problem, self._sequences, self.rng)
        candidates = islice(self._distinct(), self.options.evaluations)
        best, least, done = None, np.inf, 0
        while batch := tuple(islice(candidates, BATCH)):
            means = (yield Evaluate(batch, sequences)).mean(axis=1)
            done += len(batch)
            winner = int(np.argmin(np.where(np.isnan(means), np.inf, means)))
            if best is None or means[winner] < least:
                best, least = batch[winner], means[winner]
            self.progress = Progress(done, self.options.evaluations, best)
        assert best is not None, "the first allocation is always evaluated"
        return best

    def _distinct(self) -> Iterator[Allocation]:
        """The first allocation, then random ones, until no new one turns up."""
        center = self.problem.first()
        seen = {center}
        yield center
        failures = 0
        draws = self._draws(center)
        while failures < ATTEMPTS:
            allocation = repair(self.problem.space, self.problem.limits, next(draws), self.rng)
            failures += 1
            if allocation not in seen:
                seen.add(allocation)
                failures = 0
                yield allocation

    def _draws(self, center: Allocation) -> Iterator[IntArray]:
        """Level indices `[sites]` before repair, without end."""
        space = self.problem.space
        low, high = np.zeros(len(space), dtype=np.int64), space.counts - 1
        if self.options.radius is not None:
            low = np.maximum(center.array - self.options.radius, low)
            high = np.minimum(center.array + self.options.radius, high)
        while True:
            if self.options.stratified:
                yield from latin_hypercube(low, high, BATCH, self.rng)
            else:
                yield self.rng.integers(low, high, endpoint=True)


def latin_hypercube(low: IntArray, high: IntArray, draws: int, rng: np.random.Generator) -> IntArray:
    """Integers from `low` to `high` `[sites]`, both included: `[draws, sites]`, each site stratified over the draws.

    A site with n values gets each of them `draws / n` times, rounded down or up.
    """
    strata = rng.permuted(np.tile(np.arange(draws)[:, None], len(low)), axis=0)
    fractions = (strata + rng.random(strata.shape)) / draws
    return low + (fractions * (high - low + 1)).astype(np.int64)
