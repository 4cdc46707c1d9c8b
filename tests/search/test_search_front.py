"""Dominance, fronts, knees and volumes against hand-made points, brute force and pymoo."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymoo.indicators.hv import HV

from sparsearch.search.front import hypervolume, knee, make_front, nondominated
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
    assert front.knee == knee(front.values, front.resources[:, 0]) == 1  # x + y: 1, 0.4, 0.6, 1


def test_knee_of_one_point_and_of_none() -> None:
    assert knee(np.ones(1), np.ones(1)) == 0
    with pytest.raises(ValueError, match="no points"):
        knee(np.empty(0), np.empty(0))


def counted(points: np.ndarray, size: int) -> int:
    """Cells of an integer grid of `size` a side that some point dominates."""
    cells = np.stack(np.meshgrid(*[np.arange(size)] * points.shape[1], indexing="ij"), axis=-1)
    return int((points[:, None] <= cells.reshape(-1, points.shape[1])).all(axis=-1).any(axis=0).sum())


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 4), st.integers(0, 7), st.integers(0, 2**32 - 1))
def test_hypervolume_counts_the_cells_of_a_grid(objectives: int, count: int, seed: int) -> None:
    points = np.random.default_rng(seed).integers(0, 7, size=(count, objectives)).astype(np.float64)
    assert hypervolume(points, np.full(objectives, 5.0)) == pytest.approx(counted(points, 5))


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_hypervolume_equals_pymoo_s(objectives: int) -> None:
    points = np.random.default_rng(objectives).random((20, objectives)) * 1.3
    reference = np.linspace(1.0, 1.2, objectives)
    assert hypervolume(points, reference) == pytest.approx(float(HV(ref_point=reference)(points)))


def test_hypervolume_of_dominated_points_outside_the_box_and_of_none() -> None:
    corner = np.array([2.0, 2.0])
    alone = hypervolume(np.array([[1.0, 0.5]]), corner)
    assert alone == 1.5
    assert hypervolume(np.array([[1.0, 0.5], [1.5, 0.6], [0.0, 2.0], [2.5, 0.0]]), corner) == alone
    assert hypervolume(np.empty((0, 2)), corner) == hypervolume(np.empty((0, 3)), np.ones(3)) == 0
