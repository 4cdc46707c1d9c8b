"""Dominance, fronts and knees against hand-made points and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from sparsearch.search.front import knee, make_front, nondominated
from sparsearch.space.allocation import Allocation


def allocations(count: int) -> tuple[Allocation, ...]:
    return tuple(Allocation.of(np.array([index])) for index in range(count))


def test_dominance_equals_brute_force() -> None:
    points = np.random.default_rng(0).integers(0, 5, size=(60, 3)).astype(np.float64)
    rows = [tuple(row) for row in points.tolist()]
    for index, kept in enumerate(nondominated(points)):
        beaten = any(o != rows[index] and all(a <= b for a, b in zip(o, rows[index], strict=True)) for o in rows)
        assert kept == (not beaten and rows[index] not in rows[:index])


def test_front_is_ordered_and_drops_dominated_points() -> None:
    front = make_front(allocations(4), np.array([1.0, 4.0, 2.0, 4.5]), np.array([[9.0], [1.0], [3.0], [2.0]]))
    assert front.resources[:, 0].tolist() == [1.0, 3.0, 9.0]
    assert front.allocations == tuple(allocations(4)[index] for index in (1, 2, 0))


def test_knee_is_farthest_from_the_chord() -> None:
    front = make_front(allocations(4), np.array([10.0, 3.0, 1.0, 0.0]), np.array([[0.0], [1.0], [5.0], [10.0]]))
    assert knee(front.values, front.resources[:, 0]) == 1  # x + y: 1, 0.4, 0.6, 1


def test_knee_of_one_point_and_of_none() -> None:
    assert knee(np.ones(1), np.ones(1)) == 0
    with pytest.raises(ValueError, match="no points"):
        knee(np.empty(0), np.empty(0))
