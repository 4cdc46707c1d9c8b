import numpy as np
import pytest
from search_references import BUDGETS, least_mean, tiny_problem

from sparsearch.errors import ConfigError
from sparsearch.search import check_searcher, make_searcher
from sparsearch.search.greedy import additions, savings
from sparsearch.space import Allocation
from sparsearch.space.budget import Budget
from sparsearch.space.repair import uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive

EQUAL_SITES = {"mlp.up_proj": (16, 32)}
both_directions = pytest.mark.parametrize("direction", ["forward", "backward"])


def greedy(synthetic, **options):
    return drive(make_searcher("greedy", options, synthetic.problem, 0), synthetic)


@both_directions
@pytest.mark.parametrize("candidates, levels", [(1, 9), (4, 4), (6, 1)])
def test_it_reaches_the_optimum_of_a_convex_separable_objective_with_equal_steps(direction, candidates, levels):
    """There greedy is exact, however coarse the curves, as long as enough candidates are measured."""
    synthetic = quadratic_problem(block=EQUAL_SITES, blocks=6)
    best = greedy(synthetic, direction=direction, candidates=candidates, levels=levels).best
    assert synthetic.mean(best) == pytest.approx(synthetic.mean(synthetic.additive_optimum()), rel=1e-9)


@both_directions
@pytest.mark.parametrize("budget", BUDGETS)
def test_it_comes_near_the_optimum_of_unequal_sites(direction, budget):
    found, least = 0.0, 0.0
    for seed in range(5):
        synthetic = tiny_problem(budget, seed=seed)
        found += synthetic.mean(greedy(synthetic, direction=direction).best)
        least += least_mean(synthetic)
    assert found <= 1.25 * least


@both_directions
@pytest.mark.parametrize("interaction", [0.0, 0.5])
def test_no_denser_step_is_left_that_fits_and_gains(direction, interaction):
    budget = Budget(sparsity=0.5, bytes="0.58x")
    synthetic = quadratic_problem(budget, blocks=2, interaction=interaction)
    best = greedy(synthetic, direction=direction, candidates=4).best
    for site, level in enumerate(best.levels):
        denser = best.replace({site: max(level - 1, 0)})
        fits = synthetic.problem.limits.met(denser) and denser != best
        assert not (fits and synthetic.mean(denser) < synthetic.mean(best) - 1e-9)


@both_directions
def test_interactions_are_followed_at_a_few_evaluations_a_step(direction):
    synthetic = quadratic_problem(blocks=2, interaction=0.5)
    run = greedy(synthetic, direction=direction, candidates=3)
    assert all(len(request.allocations) <= 4 for request in run.requests[1:])
    assert synthetic.mean(run.best) < synthetic.mean(uniform(synthetic.problem.space, synthetic.problem.limits))


def test_savings_and_additions_are_shares_summed_over_bounds():
    synthetic = quadratic_problem(Budget(sparsity=0.5, bytes="0.58x"), blocks=1)
    limits = synthetic.problem.limits
    assert len(limits.bounds) == 2
    levels = np.array([5, 6, 7, 5, 5, 6, 1])
    excess = limits.spent(levels) - limits.bounds
    assert (excess > 0).any()
    saved = savings(limits, levels)
    for site, level in [(0, 7), (6, 9), (4, 2)]:
        change = limits.costs[:, site, levels[site]] - limits.costs[:, site, level]
        expected = sum(min(c / e, 1) for c, e in zip(change, excess, strict=True) if e > 0)
        assert saved[site, level] == pytest.approx(expected)
    levels = np.full(7, 8)
    room = limits.bounds - limits.spent(levels)
    added, fits = additions(limits, levels)
    for site in range(7):
        for level in range(8):
            moved = Allocation.of(levels).replace({site: level})
            assert fits[site, level] == limits.met(moved)
            expected = (limits.spent(moved.array) - limits.spent(levels)) / room
            assert added[site, level] == pytest.approx(expected.sum())


@pytest.mark.parametrize("options", [{"direction": "up"}, {"candidates": 0}, {"levels": 0}, {"sequences": "8"}])
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigError, match=rf"searcher\.{next(iter(options))}"):
        check_searcher("greedy", options)
