"""Allocations for sparsities that somebody wishes for, such as those of a profile of another grid or budget."""

from __future__ import annotations

import numpy as np

from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.repair import Walk, project
from sparsearch.space.space import FloatArray, SearchSpace


def nearest(space: SearchSpace, wishes: FloatArray) -> Allocation:
    """Each site's level with the sparsity nearest to `wishes` `[sites]`; the denser one of two that are as near.

    No budget plays a part: `fitted` meets one.
    """
    distance = np.abs(space.sparsities - wishes[:, None])
    return Allocation.of(np.where(space.valid, distance, np.inf).argmin(axis=1))


def fitted(space: SearchSpace, limits: Limits, wishes: FloatArray) -> Allocation:
    """The feasible allocation nearest to `wishes` `[sites]`, after one shift of all wishes that uses up `limits`.

    So a profile of 70 % gives one of 60 % with its own shape. The shift is the one at which linear interpolation
    between levels just meets the limits; where the wishes are levels that leave little of them unspent, it is too
    small to change any.
    """
    return project(space, limits, np.clip(wishes + _shift(space, limits, wishes), 0.0, 1.0))


def is_tight(limits: Limits, allocation: Allocation) -> bool:
    """Whether `allocation` meets `limits` and no site's next denser level fits."""
    walk = Walk(limits, allocation.array)
    return walk.met() and not (walk.added <= walk.room[:, None]).all(axis=0).any()


def _shift(space: SearchSpace, limits: Limits, wishes: FloatArray) -> float:
    """The least shift of all wishes at which the interpolated costs meet the limits, in [-1, 1]."""
    table, counts = space.sparsities, space.counts
    low, high = -1.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        spent = np.zeros(len(limits.bounds))
        for site, (count, wish) in enumerate(zip(counts, wishes + middle, strict=True)):
            grid = table[site, :count]
            spent += [np.interp(wish, grid, limits.costs[r, site, :count]) for r in range(len(spent))]
        low, high = (low, middle) if (spent <= limits.bounds).all() else (middle, high)
    return high
