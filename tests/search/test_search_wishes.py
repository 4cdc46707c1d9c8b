import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsearch.search.wishes import banded, kept_in_proportion, nearest, scaled, shifted, unit
from sparsearch.space import Budget
from sparsearch.space.repair import uniform_sparsity
from sparsearch.testing import quadratic_problem

SITES = 14


def problem(sparsity, **more):
    made = quadratic_problem(Budget(sparsity=sparsity, **more)).problem
    return made.space, made.limits


def sizes(space):
    return np.array([site.size for site in space.sites], dtype=np.float64)


def mean_sparsity(space, wished):
    return (wished * sizes(space)).sum() / sizes(space).sum()


budgets = st.floats(0.05, 0.85)
numbers = st.lists(st.floats(0.01, 100), min_size=SITES, max_size=SITES).map(np.array)
maps = [
    lambda space, limits, values: banded(space, limits, values, 0.1),
    lambda space, limits, values: shifted(space, limits, -values / 100),
    lambda space, limits, values: scaled(space, limits, 1 / values),
    kept_in_proportion,
]


@pytest.mark.parametrize("wish", maps, ids=["banded", "shifted", "scaled", "kept_in_proportion"])
@given(budget=budgets, importance=numbers)
@settings(max_examples=10, deadline=None)
def test_wishes_meet_the_budget_exactly_and_follow_the_importance(wish, budget, importance):
    space, limits = problem(budget)
    wished = wish(space, limits, importance)
    assert mean_sparsity(space, wished) == pytest.approx(budget, abs=2e-3)
    # Counts are rounded up, so the sparsest level of a small site lies up to a row's share above 0.9.
    assert (np.diff(wished[np.argsort(importance)]) <= 3e-3).all(), "more important sites are not sparser"
    assert (wished >= 0).all() and (wished <= 0.903).all()


@given(budget=budgets, importance=numbers)
@settings(max_examples=10, deadline=None)
def test_the_nearest_allocation_uses_the_budget_up_and_follows_the_wishes(budget, importance):
    space, limits = problem(budget)
    wished = banded(space, limits, importance, 0.2)
    found = nearest(space, limits, wished)
    assert limits.met(found)
    # The room that is left is smaller than the smallest step of any site.
    assert limits.bounds[0] - limits.spent(found.array)[0] < 0.1 * sizes(space).min() + 1
    placed = np.take_along_axis(space.sparsities, found.array[:, None], axis=1)[:, 0]
    assert np.abs(placed - wished).max() < 0.2
    for kind in {site.kind for site in space.sites}:
        sites = [index for index, site in enumerate(space.sites) if site.kind == kind]
        ordered = placed[sorted(sites, key=lambda index: wished[index])]
        assert (np.diff(ordered) >= -0.105).all(), "at most one level apart against the wishes"


def test_a_wish_on_the_grid_that_meets_the_budget_is_the_answer():
    space, limits = problem(0.6)
    wished = np.where(np.arange(SITES) < SITES // 2, 0.5, 0.7)
    assert mean_sparsity(space, wished) == pytest.approx(0.6)
    found = nearest(space, limits, wished)
    np.testing.assert_allclose(
        np.take_along_axis(space.sparsities, found.array[:, None], axis=1)[:, 0], wished, atol=0.004
    )


def test_the_band_is_as_wide_as_asked_for():
    space, limits = problem(0.5)
    wished = banded(space, limits, np.arange(SITES, dtype=np.float64), 0.08)
    assert np.ptp(wished) == pytest.approx(0.16)
    np.testing.assert_allclose(np.diff(wished), -0.16 / (SITES - 1))
    # Wishes for blocks of equal size are OWL's: S - (2 band u - mean of it).
    blocks = np.repeat([1.0, 3.0], SITES // 2)
    np.testing.assert_allclose(banded(space, limits, blocks, 0.08), np.repeat([0.58, 0.42], SITES // 2), atol=2e-3)


def test_caps_hold_and_give_way_only_to_the_budget():
    space, limits = problem(0.5)
    raw = np.where(np.arange(SITES) == 0, 1.0, 0.1)
    assert scaled(space, limits, raw, most=0.55).max() == pytest.approx(0.55)
    assert scaled(space, limits, raw, most=0.2).max() == pytest.approx(uniform_sparsity(space, limits))
    kept = kept_in_proportion(space, limits, np.where(np.arange(SITES) == 0, 1e-4, 1.0), most=0.6)
    assert kept[0] == pytest.approx(0.6)


def test_several_bounds_are_met_at_once():
    space, limits = problem(0.5, bytes="0.58x", flops="0.6x")
    found = nearest(space, limits, banded(space, limits, np.arange(SITES, dtype=np.float64), 0.1))
    assert limits.met(found)


def test_equal_importance_is_uniform():
    space, limits = problem(0.5)
    np.testing.assert_allclose(unit(np.full(SITES, 7.0)), 0.5)
    for wish in maps:
        np.testing.assert_allclose(wish(space, limits, np.full(SITES, 7.0)), 0.5, atol=2e-3)


@pytest.mark.parametrize("values", [np.zeros(SITES), np.where(np.arange(SITES) == 3, 1.0, 0.0)], ids=["zeros", "one"])
def test_zeros_are_no_trouble(values):
    space, limits = problem(0.5)
    for wish in (scaled, kept_in_proportion):
        assert mean_sparsity(space, wish(space, limits, values)) == pytest.approx(0.5, abs=2e-3)


def test_where_equal_sites_have_to_differ_they_do_so_all_over_the_depth():
    made = quadratic_problem(Budget(sparsity=0.55), block={"mlp.up_proj": (32, 64)}, blocks=20).problem
    found = nearest(made.space, made.limits, np.full(20, 0.55)).array
    assert sorted(found) == [5] * 10 + [6] * 10
    for start in range(0, 20, 5):
        assert 2 <= (found[start : start + 5] == 6).sum() <= 3
