import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsearch.space import Budget
from sparsearch.space.budget import Limits
from sparsearch.space.repair import (
    Walk,
    around_uniform,
    cheapest,
    project,
    repair,
    tight_sparsity,
    uniform,
    uniform_sparsity,
)
from sparsearch.testing import quadratic_problem

WIDE = {"q": (40, 80), "k": (10, 80), "up": (120, 80), "down": (80, 120)}
TWENTIETHS = [round(0.05 * step, 2) for step in range(1, 20)]


def make(budget, levels=TWENTIETHS, **options):
    problem = quadratic_problem(budget, levels=levels, block=WIDE, **options).problem
    return problem.space, problem.limits


def tight(space, limits, allocation):
    walk = Walk(limits, allocation.array)
    return walk.met() and not (walk.added <= walk.room[:, None]).all(axis=0).any()


@given(st.integers(0, 2**32), st.floats(0.05, 0.93), st.booleans())
@settings(max_examples=60, deadline=None)
def test_repair_is_feasible_tight_and_changes_nothing_in_place(seed, sparsity, also_bytes):
    space, limits = make(Budget(sparsity, bytes="0.9x") if also_bytes else Budget(sparsity))
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, space.counts)
    before = levels.copy()
    allocation = repair(space, limits, levels, rng)
    space.check(allocation)
    assert limits.met(allocation)
    assert tight(space, limits, allocation)
    assert (levels == before).all()


def test_repair_reaches_bounds_that_sparser_steps_do_not():
    space, _ = make(Budget(params="1x"))
    slow = np.zeros(space.valid.shape)
    slow[:, 1:] = 1.0  # any sparse kernel is slower than the dense one
    limits = Limits(("latency",), np.array([3.0]), slow[None])
    allocation = repair(space, limits, np.full(len(space), 5), np.random.default_rng(0))
    assert limits.met(allocation)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_a_walk_keeps_its_books(seed):
    space, limits = make(Budget(sparsity=0.6, bytes="0.6x"), levels=[0.1, 0.5, "2:4", 0.9])
    rng = np.random.default_rng(seed)
    walk = Walk(limits, rng.integers(0, space.counts))
    for _ in range(20):
        site = int(rng.integers(len(space)))
        by = int(rng.choice([-1, 1]))
        if 0 <= walk.levels[site] + by < space.counts[site]:
            walk.move(site, by)
    fresh = Walk(limits, walk.levels)
    np.testing.assert_allclose(walk.room, fresh.room)
    np.testing.assert_array_equal(walk.added, fresh.added)
    np.testing.assert_array_equal(walk.saved, fresh.saved)


def test_project_equals_brute_force():
    space, limits = make(Budget(sparsity=0.55), levels=[0.25, 0.5, 0.75], blocks=1)
    rng = np.random.default_rng(0)
    sizes = np.array([site.size for site in space.sites])
    rows = np.arange(len(space))
    for _ in range(20):
        wish = rng.random(len(space))
        distance = sizes[:, None] * (space.sparsities - wish[:, None]) ** 2
        every = np.array(list(itertools.product(range(4), repeat=len(space))))
        feasible = every[space.site_cost("params", every) <= limits.bounds[0]]
        least = distance[rows, feasible].sum(axis=1).min()
        found = project(space, limits, wish)
        assert limits.met(found)
        assert distance[rows, found.array].sum() == pytest.approx(least)


def test_project_returns_feasible_wishes_unchanged():
    space, limits = make(Budget(sparsity=0.5))
    wished = repair(space, limits, np.random.default_rng(1).integers(0, space.counts), np.random.default_rng(2))
    assert project(space, limits, space.sparsities[np.arange(len(space)), wished.levels]) == wished


@pytest.mark.parametrize("sparsity", [0.05, 0.3, 0.6, 0.95])
def test_uniform_on_the_grid_is_exactly_that_level(sparsity):
    space, limits = make(Budget(sparsity))
    allocation = uniform(space, limits)
    labels = {levels[index].label for levels, index in zip(space.levels, allocation.levels, strict=True)}
    assert labels == {f"{sparsity:g}"}


@pytest.mark.parametrize("width", [32, 33, 47])
def test_uniform_on_the_grid_survives_rounding(width):
    problem = quadratic_problem(Budget(0.6), block={"q": (8, width), "up": (24, width + 5)}, levels=TWENTIETHS).problem
    allocation = uniform(problem.space, problem.limits)
    assert {levels[index].label for levels, index in zip(problem.space.levels, allocation.levels, strict=True)} == {
        "0.6"
    }


@pytest.mark.parametrize("sparsity", [0.57, 0.575, 0.613])
def test_uniform_off_the_grid_takes_the_neighbouring_levels_spread_over_the_depth(sparsity):
    space, limits = make(Budget(sparsity), blocks=16)
    allocation = uniform(space, limits)
    assert limits.met(allocation)
    assert space.sparsity(allocation) == pytest.approx(sparsity, abs=2e-3)
    levels = allocation.array
    assert np.ptp(levels) == 1
    halves = levels[: len(space) // 2].mean(), levels[len(space) // 2 :].mean()
    assert abs(halves[0] - halves[1]) < 0.15


def test_uniform_meets_several_bounds_and_the_tightest_one_binds():
    space, limits = make(Budget(sparsity=0.5, bytes="0.45x"))
    allocation = uniform(space, limits)
    assert limits.met(allocation)
    assert uniform_sparsity(space, limits) > 0.55
    assert space.cost("bytes", allocation) <= 0.45 * space.cost("bytes", space.dense())


def test_uniform_of_a_loose_budget_is_dense():
    space, limits = make(Budget(params="1x"))
    assert uniform(space, limits) == space.dense()


@given(st.integers(0, 2**32), st.floats(0.1, 0.9))
@settings(max_examples=20, deadline=None)
def test_sparsities_off_a_common_one_are_as_dense_as_the_budget_allows(seed, sparsity):
    space, limits = make(Budget(sparsity))
    offsets = np.random.default_rng(seed).uniform(-0.5, 0.5, size=len(space))
    sizes = np.array([site.size for site in space.sites])
    found = tight_sparsity(space, limits, offsets)

    def common(s):
        """The whole sparsity when every site lies off s; between levels weights are linear in sparsity."""
        return sizes @ np.clip(s + offsets, 0, 0.95) / sizes.sum()

    assert common(found) == pytest.approx(sparsity, abs=1e-9)
    assert limits.met(around_uniform(space, limits, offsets))
    assert around_uniform(space, limits, offsets + 0.25) == around_uniform(space, limits, offsets)


def test_cheapest_ignores_values_of_levels_that_a_site_lacks():
    problem = quadratic_problem(Budget(0.5), block={"a": (8, 32), "b": (8, 30)}, levels=["1:4", 0.6]).problem
    values = np.where(problem.space.valid, problem.space.sparsities, -1e9)
    allocation = cheapest(problem.space, problem.limits, values)
    problem.space.check(allocation)
    assert problem.limits.met(allocation)
