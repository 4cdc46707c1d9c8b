"""Intervals of levels that sites may still take, and what can be found in the search space that they leave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.repair import cheapest, repair
from sparsearch.space.space import BoolArray, FloatArray, IntArray, SearchSpace
from sparsearch.space.window import Window


@dataclass(frozen=True, eq=False)
class Intervals:
    """The levels from `low` to `high` of every site, both `[sites]` and included: a `Window` without gaps."""

    low: IntArray
    high: IntArray

    @classmethod
    def all(cls, space: SearchSpace) -> Intervals:
        """Every level of every site."""
        return cls(np.zeros(len(space), dtype=np.int64), space.counts - 1)

    @property
    def sizes(self) -> IntArray:
        """How many levels each site has left, `[sites]`."""
        return self.high - self.low + 1

    def mask(self, levels: int) -> BoolArray:
        """Which of the first `levels` levels are left, `[sites, levels]`."""
        index = np.arange(levels)
        return (index >= self.low[:, None]) & (index <= self.high[:, None])

    def hold(self, allocation: Allocation) -> bool:
        """Whether every level of `allocation` is left."""
        levels = allocation.array
        return bool(((levels >= self.low) & (levels <= self.high)).all())

    def within(self, levels: IntArray, radius: int) -> Intervals:
        """What is left no further than `radius` from `levels`, which are left."""
        return Intervals(np.maximum(self.low, levels - radius), np.minimum(self.high, levels + radius))

    def without(self, worse: BoolArray, kept: IntArray) -> Intervals:
        """The same without their outermost levels that are `worse` `[sites, levels]`, those of `kept` never.

        A level that is worse but lies between two that are not stays. As `kept` stays,
        whatever budget it meets can still be met.
        """
        low, high = self.low.copy(), self.high.copy()
        for site, level in enumerate(kept):
            while low[site] < level and worse[site, low[site]]:
                low[site] += 1
            while high[site] > level and worse[site, high[site]]:
                high[site] -= 1
        return Intervals(low, high)

    def repaired(self, space: SearchSpace, limits: Limits, levels: IntArray, rng: np.random.Generator) -> Allocation:
        """`levels` brought into the intervals, then onto the budget by random steps within them (`space.repair`).

        Some allocation within the intervals must meet `limits`.
        """
        window = self._window()
        inside = np.clip(levels, self.low, self.high) - self.low
        return window.outer(repair(window.space(space), window.limits(limits), inside, rng))

    def cheapest(self, space: SearchSpace, limits: Limits, values: FloatArray) -> Allocation:
        """The least sum of `values` `[sites, max levels]` within the intervals that meets `limits`, exactly."""
        window = self._window()
        return window.outer(cheapest(window.space(space), window.limits(limits), window.part(values[None])[0]))

    def _window(self) -> Window:
        return Window(tuple(tuple(range(a, b + 1)) for a, b in zip(self.low.tolist(), self.high.tolist(), strict=True)))
