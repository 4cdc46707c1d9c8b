"""A part of a search space: some of the levels of each site, the others out of reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.space import FloatArray, IntArray, SearchSpace

REACH = 4
"""Levels to each side of a site's own that Týr offers and accumulates errors over: nine in all, as published."""


@dataclass(frozen=True)
class Window:
    """Some levels of each site.

    Attributes:
        levels: per site the level indices that are in it, ascending, at least one.
    """

    levels: tuple[tuple[int, ...], ...]

    @classmethod
    def around(cls, space: SearchSpace, centre: Allocation, step: int, reach: int) -> Window:
        """Every `step`-th level of each site, from `reach` steps below its own in `centre` to as many above."""
        shifts = step * np.arange(-reach, reach + 1)
        return cls(
            tuple(
                tuple(int(level) for level in own + shifts if 0 <= level < count)
                for own, count in zip(centre.levels, space.counts, strict=True)
            )
        )

    @classmethod
    def whole(cls, space: SearchSpace) -> Window:
        """Every level of each site."""
        return cls(tuple(tuple(range(count)) for count in space.counts))

    def space(self, whole: SearchSpace) -> SearchSpace:
        """The search space of these levels alone. Its first level need not be dense."""
        levels = tuple(tuple(row[index] for index in kept) for row, kept in zip(whole.levels, self.levels, strict=True))
        costs = {resource: self.part(table[None])[0] for resource, table in whole.costs.items()}
        return SearchSpace(whole.sites, levels, costs, whole.constants)

    def limits(self, whole: Limits) -> Limits:
        """The same bounds for these levels alone."""
        return Limits(whole.resources, whole.bounds, self.part(whole.costs))

    def inner(self, allocation: Allocation) -> Allocation:
        """An allocation of these levels, in the whole space's indices, in the window's own.

        Raises:
            ValueError: a level is not in the window.
        """
        return Allocation.of(kept.index(level) for kept, level in zip(self.levels, allocation.levels, strict=True))

    def outer(self, allocation: Allocation) -> Allocation:
        """The inverse of `inner`."""
        return Allocation.of(kept[level] for kept, level in zip(self.levels, allocation.levels, strict=True))

    def part(self, costs: FloatArray) -> FloatArray:
        """The columns of tables `costs` `[n, sites, max levels]` in the window, `inf` behind a site's last."""
        most = max(map(len, self.levels))
        part = np.full((*costs.shape[:2], most), np.inf)
        for site, kept in enumerate(self.levels):
            indices: IntArray = np.array(kept, dtype=np.int64)
            part[:, site, : len(kept)] = costs[:, site, indices]
        return part
