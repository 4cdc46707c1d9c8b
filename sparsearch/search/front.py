"""Pareto fronts: which allocations no other one dominates, the knee of a front, and the volume that it dominates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sparsearch.space.allocation import Allocation
from sparsearch.space.space import FloatArray


@dataclass(frozen=True, eq=False)
class Front:
    """Allocations none of which dominates another, ordered by the first resource.

    Attributes:
        allocations: one a point.
        values: mean objective of each, `[points]`.
        resources: what each costs, `[points, resources]`.
        names: of the resources, in that order; empty where nobody has named them.
    """

    allocations: tuple[Allocation, ...]
    values: FloatArray
    resources: FloatArray
    names: tuple[str, ...] = ()

    @property
    def knee(self) -> int:
        """Index of the knee in the first resource."""
        return knee(self.values, self.resources[:, 0])


def make_front(
    allocations: tuple[Allocation, ...], values: FloatArray, resources: FloatArray, names: tuple[str, ...] = ()
) -> Front:
    """The front among `allocations` with mean objectives `[n]` and costs `[n, resources]`, all to be minimised."""
    kept = np.flatnonzero(nondominated(np.column_stack([values, resources])))
    kept = kept[np.argsort(resources[kept, 0], kind="stable")]
    return Front(tuple(allocations[index] for index in kept), values[kept], resources[kept], names)


def nondominated(points: FloatArray) -> npt.NDArray[np.bool_]:
    """Whether no other row of `points`, `[n, objectives]`, is at most as large everywhere and smaller somewhere.

    Of equal rows the first one stays. Takes O(n^2 * objectives) time and O(n * objectives) memory.
    """
    kept = np.ones(len(points), dtype=np.bool_)
    for index, point in enumerate(points):
        no_worse = (points <= point).all(axis=1)
        equal = (points == point).all(axis=1)
        kept[index] = not (no_worse & ~equal).any() and not equal[:index].any()
    return kept


def thin(front: Front, most: int) -> Front:
    """At most `most` points of `front`, those with the largest crowding distances; the order stays.

    Distances are those on the whole front (Deb et al., NSGA-II, 2002): per objective the gap between a point's
    neighbours over the range. The point with the least value always stays.
    """
    distances = crowding(np.column_stack([front.values, front.resources]))
    distances[np.argmin(front.values)] = np.inf
    first = np.lexsort((np.arange(len(distances)) != np.argmin(front.values), -distances))
    kept = np.sort(first[:most])
    allocations = tuple(front.allocations[index] for index in kept)
    return Front(allocations, front.values[kept], front.resources[kept], front.names)


def crowding(points: FloatArray) -> FloatArray:
    """Crowding distance `[n]` of `points` `[n, objectives]`; `inf` at the ends of each objective."""
    distances = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        ranked = column[order]
        gaps = np.full(len(points), np.inf)
        gaps[1:-1] = (ranked[2:] - ranked[:-2]) / (ranked[-1] - ranked[0] or 1.0)
        distances[order] += gaps
    return distances


def knee(values: FloatArray, costs: FloatArray) -> int:
    """Index of the point of a front farthest below the chord between its extremes in the first resource.

    Value and first resource are scaled to [0, 1] between those extremes, so the chord is x + y = 1 and the knee has
    the least x + y. The first of equals; 0 when the extremes do not span both axes.

    Args:
        values: mean objective, `[points]`.
        costs: in the first resource, ascending, `[points]`.

    Raises:
        ValueError: the front is empty.
    """
    if not len(values):
        raise ValueError("the front has no points")
    plane = np.column_stack([costs, values])
    low, high = plane[0], plane[-1]
    if high[0] <= low[0] or high[1] >= low[1]:
        return 0
    x = (plane[:, 0] - low[0]) / (high[0] - low[0])
    y = (plane[:, 1] - high[1]) / (low[1] - high[1])
    return int(np.argmin(x + y))


def hypervolume(points: FloatArray, reference: FloatArray) -> float:
    """Volume between `points` `[n, objectives]`, all to be minimised, and `reference` `[objectives]`, two or more.

    What at least one point dominates and `reference` bounds (Zitzler & Thiele, "Multiobjective Evolutionary
    Algorithms", 1999), exactly: slices of the last objective, in each the volume of the other ones (Knowles,
    "Local-Search and Hybrid Evolutionary Algorithms", 2002). Points that are not below `reference` everywhere add
    nothing. O(n log n) time for two objectives, a factor of n more for each further one.
    """
    inside = points[(points < reference).all(axis=1)]
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    depths = np.diff(inside[:, -1], append=reference[-1])
    if points.shape[1] == 2:
        widths = reference[0] - np.minimum.accumulate(inside[:, 0])
        return float(widths @ depths)
    return sum(
        float(depth) * hypervolume(inside[: count + 1, :-1], reference[:-1])
        for count, depth in enumerate(depths)
        if depth > 0
    )
