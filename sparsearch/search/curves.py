"""Error curves: what each level of a site alone does to the objective, measured or interpolated."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression

from sparsearch.search.base import Evaluate
from sparsearch.search.scores import Scores
from sparsearch.space.allocation import Allocation
from sparsearch.space.space import FloatArray, SearchSpace

BROKEN = 1e3
"""How much dearer than any finite change a level is that breaks the model: never taken, unless nothing else fits."""

APART = 1e-6
"""Sparsity by which levels of equal sparsity (`2:4`, `0.5`) are set apart."""


def probed_levels(space: SearchSpace, points: int) -> list[list[int]]:
    """Per site the levels to measure: `points` of them spread evenly behind the dense one, the last one included.

    A site with no more than `points` levels behind the dense one gets all of them.
    """
    grids = (np.linspace(0, count - 1, min(points, count - 1) + 1) for count in space.counts)
    return [np.rint(grid[1:]).astype(int).tolist() for grid in grids]


def measured_changes(
    space: SearchSpace, scores: Scores, base: Allocation, levels: Sequence[Iterable[int]]
) -> Generator[Evaluate, FloatArray, FloatArray]:
    """What the objective changes by when one site of `base` alone takes another level.

    One request, in which all allocations differ from `base` at one site: prefix reuse saves about half of it.

    Args:
        space: the search space.
        scores: whose sequences are used, and which remembers the values.
        base: the allocation around which is measured; need not meet the budget.
        levels: per site the levels to measure.

    Returns:
        Paired changes `[sequences, sites, max levels]`: 0 at the level of `base`, `nan` where not measured, `inf`
        where the model broke.
    """
    moves = [(site, level) for site, row in enumerate(levels) for level in row if level != base.levels[site]]
    rows = yield from scores.rows([base, *(base.replace({site: level}) for site, level in moves)])
    changes = np.full((rows.shape[1], *space.valid.shape), np.nan)
    changes[:, np.arange(len(space)), base.array] = 0.0
    with np.errstate(invalid="ignore"):  # inf - inf
        differences = rows[1:] - rows[:1]
    differences = np.where(np.isfinite(differences), differences, np.inf)
    for (site, level), difference in zip(moves, differences, strict=True):
        changes[:, site, level] = difference
    return changes


def finite(changes: FloatArray) -> FloatArray:
    """`changes` with `inf` made `BROKEN` times the largest finite one, for a knapsack to weigh; `nan` stay."""
    sound = np.isfinite(changes)
    largest = float(np.abs(changes[sound]).max(initial=0.0))
    return np.where(np.isposinf(changes), BROKEN * (largest + 1e-12), changes)


def monotone_curves(space: SearchSpace, changes: FloatArray) -> FloatArray:
    """Complete curves from changes that were measured at some levels.

    A sparser level is taken to be no better: least-squares isotonic regression first, which averages over what
    noise has put in the wrong order, then monotone cubic interpolation over the sparsity (Fritsch & Butland, "A
    Method for Constructing Local Monotone Piecewise Cubic Interpolants", 1984). It interpolates square roots: near
    its minimum an objective grows with the square of the change of the weights, so they are nearer to straight.

    Args:
        space: the search space.
        changes: `[sites, max levels]`, `nan` where not measured, `inf` where the model broke; at least one level
            of each site is known. Levels outside those that are known get the value of the nearest one.

    Returns:
        `[sites, max levels]`, finite and non-decreasing over a site's levels; 0 where invalid.
    """
    positions = np.nan_to_num(space.sparsities) + APART * np.arange(space.valid.shape[1])
    curves, known = finite(changes), ~np.isnan(changes) & space.valid
    found = np.zeros(changes.shape)
    for site, count in enumerate(space.counts):
        at = np.flatnonzero(known[site])
        found[site, :count] = _monotone_curve(positions[site, at], curves[site, at], positions[site, :count])
    return found


def _monotone_curve(known: FloatArray, values: FloatArray, wanted: FloatArray) -> FloatArray:
    """Values at positions `wanted` of the monotone curve through or near `values` at positions `known`."""
    if len(known) == 1:
        return np.full(len(wanted), values[0])
    rising = isotonic_regression(values).x
    roots = PchipInterpolator(known, np.sqrt(rising - rising[0]))
    return rising[0] + roots(np.clip(wanted, known[0], known[-1])) ** 2
