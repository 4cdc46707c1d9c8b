"""Feasible allocations near given ones: exact projection, and cheap random repair."""

from __future__ import annotations

import numpy as np

from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.knapsack import solve_knapsack
from sparsearch.space.space import FloatArray, IntArray, SearchSpace


def cheapest(space: SearchSpace, limits: Limits, values: FloatArray) -> Allocation:
    """The allocation with the least `sum of values[site, level]` that meets `limits`, exactly.

    Args:
        values: `[sites, max levels]`; entries of invalid levels are ignored.
    """
    levels = solve_knapsack(np.where(space.valid, values, 0.0), space.valid, limits.costs, limits.bounds)
    assert levels is not None, "limits were checked to be reachable when they were resolved"
    return Allocation.of(levels)


def project(space: SearchSpace, limits: Limits, sparsities: FloatArray) -> Allocation:
    """The feasible allocation nearest to wished `sparsities` `[sites]`.

    Least `sum_u size_u * (sparsity_u(level) - wish_u)^2`, exactly.
    """
    sizes = np.array([site.size for site in space.sites], dtype=np.float64)
    distance = (np.nan_to_num(space.sparsities) - sparsities[:, None]) ** 2
    return cheapest(space, limits, distance * (sizes / sizes.sum())[:, None])


def uniform(space: SearchSpace, limits: Limits) -> Allocation:
    """The same sparsity everywhere: the smallest one that meets `limits`, then projected onto the levels.

    Where that sparsity is on the grid of every site, each site gets exactly that level. Elsewhere sites take
    the level below or above, spread evenly over the depth.
    """
    return around_uniform(space, limits, np.zeros(len(space)))


def around_uniform(space: SearchSpace, limits: Limits, offsets: FloatArray) -> Allocation:
    """One sparsity plus `offsets` `[sites]`: the smallest one that meets `limits`, then projected onto the levels.

    A constant added to all offsets changes nothing.
    """
    wish = tight_sparsity(space, limits, offsets) + offsets
    return project(space, limits, wish + ripple(len(space)))


def ripple(count: int) -> FloatArray:
    """Tiny differences `[count]` that break ties among equal wishes without a pattern over the depth.

    Multiples of the golden ratio, which are spread evenly.
    """
    return 1e-4 * (np.arange(count, dtype=np.float64) * ((1 + 5**0.5) / 2) % 1.0 - 0.5)


def uniform_sparsity(space: SearchSpace, limits: Limits) -> float:
    """The smallest common sparsity at which linear interpolation between levels meets `limits`."""
    return tight_sparsity(space, limits, np.zeros(len(space)))


def tight_sparsity(space: SearchSpace, limits: Limits, offsets: FloatArray) -> float:
    """The smallest s at which sparsities `s + offsets`, kept within each site's levels, meet `limits`.

    Costs between two levels are interpolated linearly. About 0.2 ms a site.
    """
    table = space.sparsities
    low, high = -float(offsets.max()), float(np.nanmax(table) - offsets.min())
    for _ in range(60):
        middle = (low + high) / 2
        spent = np.zeros(len(limits.bounds))
        for site, count in enumerate(space.counts):
            grid = table[site, :count]
            wish = middle + offsets[site]
            spent += [np.interp(wish, grid, limits.costs[r, site, :count]) for r in range(len(spent))]
        low, high = (low, middle) if (spent <= limits.bounds).all() else (middle, high)
    return high


class Walk:
    """Level indices that move one level at a time, with what each next step would cost kept up to date.

    A step costs a few microseconds whatever the number of sites.

    Attributes:
        levels: `[sites]`.
        room: `[R]`, bounds less what `levels` spend; negative where a bound is broken.
        added: `[R, sites]`, cost of one level denser, `inf` for a dense site.
        saved: `[R, sites]`, saving of one level sparser, `-inf` for a site at its last level.
    """

    def __init__(self, limits: Limits, levels: IntArray) -> None:
        self.levels = levels.copy()
        self.room = limits.bounds - limits.spent(levels)
        self._table = limits.framed
        sites = np.arange(len(levels))
        now = self._table[:, sites, levels + 1]
        self.added = self._table[:, sites, levels] - now
        self.saved = now - self._table[:, sites, levels + 2]

    def move(self, site: int, by: int) -> None:
        """Makes `site` one level denser (`by=-1`) or sparser (`by=1`)."""
        self.room += self.saved[:, site] if by > 0 else -self.added[:, site]
        self.levels[site] += by
        level = self.levels[site]
        before, now, behind = self._table[:, site, level : level + 3].T
        self.added[:, site] = before - now
        self.saved[:, site] = now - behind

    def met(self) -> bool:
        """Whether every bound is met."""
        return bool(self.room.min() >= 0)

    def fill(self, rng: np.random.Generator) -> None:
        """Makes random sites one level denser while that keeps every bound met."""
        while len(fitting := np.flatnonzero((self.added <= self.room[:, None]).all(axis=0))):
            self.move(pick(fitting, rng), -1)


def pick(sites: IntArray, rng: np.random.Generator) -> int:
    """One of `sites`; several times faster than `rng.choice`."""
    return int(sites[rng.integers(len(sites))])


def repair(space: SearchSpace, limits: Limits, levels: IntArray, rng: np.random.Generator) -> Allocation:
    """Random one-level steps: sparser until `limits` are met, then denser while a step still fits.

    The result is feasible and tight: no site's next denser level fits. Where sparser steps do not lead there
    (a resource that a sparser level costs more of), the steps start from the projection.
    """
    walk = Walk(limits, levels)
    while not walk.met():
        sparser = np.flatnonzero(walk.levels < space.counts - 1)
        if not len(sparser):
            wish = np.take_along_axis(space.sparsities, levels[:, None], axis=1)[:, 0]
            walk = Walk(limits, project(space, limits, wish).array)
            break
        walk.move(pick(sparser, rng), 1)
    walk.fill(rng)
    return Allocation.of(walk.levels)
