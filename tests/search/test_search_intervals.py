import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_references import BUDGETS, feasible, tiny_problem

from sparsearch.search.intervals import Intervals
from sparsearch.space import Allocation
from sparsearch.space.budget import Budget
from sparsearch.space.repair import uniform
from sparsearch.testing import quadratic_problem


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(0, 1), st.sampled_from([0.0, 0.4, 0.6, 0.9]), st.integers(1, 6))
def test_elimination_keeps_the_budget_reachable_whatever_the_evaluations_say(seed, share, sparsity, rounds):
    """At any budget up to the sparsest that the space reaches, and whichever levels are called worse."""
    problem = quadratic_problem(Budget(sparsity=sparsity), blocks=1).problem
    space, limits = problem.space, problem.limits
    rng = np.random.default_rng(seed)
    intervals, kept = Intervals.all(space), uniform(space, limits)
    for _ in range(rounds):
        intervals = intervals.without(rng.random(space.valid.shape) < share, kept.array)
        assert intervals.hold(kept)
        assert (intervals.low >= 0).all() and (intervals.high < space.counts).all()
        kept = intervals.repaired(space, limits, rng.integers(0, space.counts), rng)
        assert intervals.hold(kept) and limits.met(kept)
        best = intervals.cheapest(space, limits, rng.normal(size=space.valid.shape))
        assert intervals.hold(best) and limits.met(best)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("seed", range(3))
def test_the_cheapest_within_windows_is_that_of_trying_all(budget, seed):
    synthetic = tiny_problem(budget)
    space, limits = synthetic.problem.space, synthetic.problem.limits
    rng = np.random.default_rng(seed)
    values = rng.normal(size=space.valid.shape)
    kept = uniform(space, limits).array
    intervals = Intervals.all(space).without(rng.random(space.valid.shape) < 0.5, kept)
    sites = np.arange(len(space))
    least = min(values[sites, each.array].sum() for each in feasible(synthetic) if intervals.hold(each))
    assert values[sites, intervals.cheapest(space, limits, values).array].sum() == pytest.approx(least)


def test_only_outermost_levels_go_and_kept_ones_never():
    intervals = Intervals(np.array([0, 0]), np.array([4, 4]))
    worse = np.array([[1, 1, 0, 1, 1], [1, 0, 1, 1, 1]], dtype=bool)
    left = intervals.without(worse, np.array([2, 3]))
    assert left.low.tolist() == [2, 1] and left.high.tolist() == [2, 3]
    assert left.sizes.tolist() == [1, 3]
    assert left.mask(5).tolist() == [[0, 0, 1, 0, 0], [0, 1, 1, 1, 0]]
    near = intervals.within(np.array([1, 4]), 2)
    assert near.low.tolist() == [0, 2] and near.high.tolist() == [3, 4]
    assert near.hold(Allocation((3, 2))) and not near.hold(Allocation((4, 2)))
