"""Random search: the baseline of every searcher that evaluates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from sparsearch.search.base import Evaluate, Options, Progress, Searcher, Steps
from sparsearch.search.checks import positive_integer
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import repair

BATCH = 16  # allocations in one request
ATTEMPTS = 100  # draws in a row without a new allocation that end the search


@dataclass(frozen=True, slots=True)
class RandomOptions(Options):
    """Options of `random`.

    Attributes:
        evaluations: allocations to evaluate, the first one (uniform, or the job's `warm_start`) included.
        sequences: of the panel, for each of them; all when left out.
        radius: levels that a site may lie off its level in the first one before repair; any level when left out.
    """

    evaluations: int = 1000
    sequences: int | None = None
    radius: int | None = None

    def __post_init__(self) -> None:
        positive_integer("evaluations", self.evaluations)
        for option in ("sequences", "radius"):
            if getattr(self, option) is not None:
                positive_integer(option, getattr(self, option))


class RandomSearch(Searcher):
    """Random allocations and a first one, uniform if none is given, on the same sequences; the best mean wins."""

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
        drawn = self.rng.choice(self.problem.sequences, size=self._sequences, replace=False)
        sequences = tuple(sorted(drawn.tolist()))
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
        while failures < ATTEMPTS:
            allocation = self._draw(center)
            failures += 1
            if allocation not in seen:
                seen.add(allocation)
                failures = 0
                yield allocation

    def _draw(self, center: Allocation) -> Allocation:
        space = self.problem.space
        low, high = np.zeros(len(space), dtype=np.int64), space.counts - 1
        if self.options.radius is not None:
            low = np.maximum(center.array - self.options.radius, low)
            high = np.minimum(center.array + self.options.radius, high)
        levels = self.rng.integers(low, high, endpoint=True)
        return repair(space, self.problem.limits, levels, self.rng)
