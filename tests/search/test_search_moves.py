import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsearch.search.moves import level_switch
from sparsearch.space import Budget
from sparsearch.space.repair import Walk, repair, uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.problems import GROUPED_QUERY_BLOCK

# Wide enough for steps of nearly equal cost: at width 32 rounding doubles some of them.
WIDE = {kind: (4 * rows, 4 * columns) for kind, (rows, columns) in GROUPED_QUERY_BLOCK.items()}
TWENTIETHS = [round(0.1 + 0.05 * step, 2) for step in range(18)]
BUDGETS = [Budget(sparsity=0.6), Budget(sparsity=0.3, bytes="0.8x"), Budget(flops="0.5x", params="0.45x")]
PROBLEMS = [quadratic_problem(budget, blocks=2).problem for budget in BUDGETS]


@given(st.integers(0, len(PROBLEMS) - 1), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_a_switch_is_feasible_tight_and_leaves_its_argument_alone(which, seed):
    problem, rng = PROBLEMS[which], np.random.default_rng(seed)
    levels = rng.integers(0, problem.space.counts)
    levels = repair(problem.space, problem.limits, levels, rng).array
    before = levels.copy()
    switched = level_switch(problem.space, problem.limits, levels, rng)
    assert (levels == before).all()
    assert (switched >= 0).all() and (switched < problem.space.counts).all()
    assert (problem.limits.spent(switched) <= problem.limits.bounds).all()
    walk = Walk(problem.limits, switched)
    assert not (walk.added <= walk.room[:, None]).all(axis=0).any(), "a denser step still fits"


def test_equal_sites_swap_one_level_as_published():
    synthetic = quadratic_problem(block={"mlp.up_proj": (10, 40)}, blocks=20)
    space, limits = synthetic.problem.space, synthetic.problem.limits
    levels, rng = uniform(space, limits).array, np.random.default_rng(0)
    for _ in range(200):
        switched = level_switch(space, limits, levels, rng)
        assert sorted((switched - levels)[switched != levels]) == [-1, 1]
        levels = switched if (switched > 1).all() and (switched < 8).all() else levels


def test_large_sites_trade_with_several_small_ones():
    synthetic = quadratic_problem(block=WIDE, blocks=8, levels=TWENTIETHS)
    space, limits = synthetic.problem.space, synthetic.problem.limits
    large = np.array([site.kind.startswith("mlp") for site in space.sites])
    rng = np.random.default_rng(0)
    levels = level_switch(space, limits, uniform(space, limits).array, rng)
    changes = np.array([level_switch(space, limits, levels, rng) - levels for _ in range(2000)])
    net = changes[:, large].sum(axis=1)
    # As often a large site gets denser at the small ones' expense as the other way round.
    assert 0.8 < (net > 0).sum() / (net < 0).sum() < 1.25
    assert (net != 0).mean() > 0.2


def test_without_selection_no_kind_drifts():
    synthetic = quadratic_problem(block=WIDE, blocks=16, levels=TWENTIETHS)
    space, limits = synthetic.problem.space, synthetic.problem.limits
    start = uniform(space, limits).array
    means = []
    for seed in range(4):
        levels, rng = start, np.random.default_rng(seed)
        for _ in range(600):
            levels = level_switch(space, limits, levels, rng)
        means.append(space.sparsities[np.arange(len(space)), levels])
    kinds = np.array([site.kind for site in space.sites])
    for kind in set(kinds):
        assert abs(np.mean(means, axis=0)[kinds == kind].mean() - 0.6) < 0.1, kind


def test_nothing_to_switch_returns_the_same_levels():
    rng = np.random.default_rng(0)
    for budget, levels in ((Budget(params="1x"), ()), (Budget(sparsity=0.75), ("2:4", "1:4"))):
        problem = quadratic_problem(budget, levels=levels).problem
        only = uniform(problem.space, problem.limits).array
        assert (level_switch(problem.space, problem.limits, only, rng) == only).all()
