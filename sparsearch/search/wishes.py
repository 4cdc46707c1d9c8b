"""From importance to an allocation: wished sparsities that meet a budget, and the levels nearest to them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.repair import project, ripple, uniform_sparsity
from sparsearch.space.space import FloatArray, SearchSpace

STEPS = 60
"""Halvings of a bisection."""


def unit(importance: FloatArray) -> FloatArray:
    """`importance` moved and scaled to [0, 1]; all 0.5 where all are equal."""
    spread = np.ptp(importance)
    return (importance - importance.min()) / spread if spread > 0 else np.full(len(importance), 0.5)


def banded(space: SearchSpace, limits: Limits, importance: FloatArray, band: float) -> FloatArray:
    """Wished sparsities `[sites]` in a band `2 * band` wide: the most important sites at its lower edge.

    The map of OWL (Yin et al., 2024): linear in the importance, with the mean where a uniform allocation stands.
    """
    return shifted(space, limits, uniform_sparsity(space, limits) - 2 * band * unit(importance))


def shifted(space: SearchSpace, limits: Limits, wished: FloatArray) -> FloatArray:
    """`wished` sparsities `[sites]` moved by the smallest common amount that meets `limits`, within 0 and 1."""
    return _least(space, limits, lambda shift: wished + shift, -float(wished.max()), 1 - float(wished.min()))


def scaled(space: SearchSpace, limits: Limits, wished: FloatArray, most: float = 1.0) -> FloatArray:
    """`wished` sparsities `[sites]`, 0 or more, times the smallest common factor that meets `limits`.

    Args:
        most: no site gets sparser; raised to the uniform sparsity where that is larger.
    """
    most = max(most, uniform_sparsity(space, limits))
    raised = np.maximum(wished, 1e-6 * wished.max() if wished.max() > 0 else 1.0)
    return _least(space, limits, lambda factor: np.minimum(factor * raised, most), 0.0, most / float(raised.min()))


def kept_in_proportion(space: SearchSpace, limits: Limits, importance: FloatArray, most: float = 1.0) -> FloatArray:
    """Wished sparsities `[sites]` whose densities are `min(1, c * importance)`, c the largest that meets `limits`.

    Args:
        importance: 0 or more.
        most: as for `scaled`.
    """
    most = max(most, uniform_sparsity(space, limits))
    raised = np.maximum(importance, 1e-6 * importance.max() if importance.max() > 0 else 1.0)
    return _least(space, limits, lambda c: np.minimum(1 + c * raised, most), -1 / float(raised.min()), 0.0)


def nearest(space: SearchSpace, limits: Limits, wished: FloatArray) -> Allocation:
    """The feasible allocation nearest to `wished` sparsities `[sites]` among those that use the budget up.

    Wishes that meet the budget exactly may well be rounded to levels that leave much of it. So the wishes are
    made a level denser for the projection: what is then above the budget it takes back where that costs least, of
    equal sites here and there over the depth.
    """
    gaps = np.diff(space.sparsities, axis=1)
    step = float(np.nanmax(gaps)) if np.isfinite(gaps).any() else 0.0
    return project(space, limits, wished - step + ripple(len(space)))


def _least(
    space: SearchSpace, limits: Limits, family: Callable[[float], FloatArray], low: float, high: float
) -> FloatArray:
    """`family(t)`, clipped to what each site can have, at the smallest t whose interpolated costs meet `limits`.

    `family` must grow with t; where not even `family(high)` meets them it is taken, and the projection decides.
    """
    grids = [row[:count] for row, count in zip(space.sparsities, space.counts, strict=True)]
    sparsest = np.array([grid[-1] for grid in grids])
    for _ in range(STEPS):
        middle = (low + high) / 2
        spent = _spent(grids, limits, np.clip(family(middle), 0, sparsest))
        low, high = (low, middle) if (spent <= limits.bounds).all() else (middle, high)
    return np.clip(family(high), 0, sparsest)


def _spent(grids: list[FloatArray], limits: Limits, sparsities: FloatArray) -> FloatArray:
    """What `sparsities` `[sites]` cost `[R]`, interpolated between the levels of each site's grid."""
    tables = [
        [np.interp(sparsity, grid, costs[site, : len(grid)]) for costs in limits.costs]
        for site, (sparsity, grid) in enumerate(zip(sparsities, grids, strict=True))
    ]
    return np.sum(tables, axis=0)
