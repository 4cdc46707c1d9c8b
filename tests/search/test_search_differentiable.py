import numpy as np
import pytest
from scipy.special import softmax
from search_references import BUDGETS, tiny_problem

from sparsearch.search import make_searcher
from sparsearch.search.differentiable import Relaxed, centred, centred_slopes
from sparsearch.space.repair import cheapest, uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive


def relaxed(problem):
    start = uniform(problem.space, problem.limits)
    return Relaxed(problem.space.valid, problem.limits, centred(problem.space.sparsities, problem.space.valid, start))


def expected(found, problem, temperature):
    p = np.exp(found.log_probabilities(temperature))
    return np.where(problem.space.valid, p * problem.limits.costs, 0.0).sum(axis=(1, 2))


def test_slopes_are_the_gradient_of_the_expected_change_over_the_fisher_information():
    rng = np.random.default_rng(0)
    logits, changes, step = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), 1e-6
    p = softmax(logits, axis=1)
    slopes, variance = centred_slopes(p, changes)
    for index in np.ndindex(logits.shape):
        moved = np.zeros_like(logits)
        moved[index] = step
        ahead, behind = ((softmax(logits + sign * moved, axis=1) * changes).sum() for sign in (1, -1))
        assert p[index] * slopes[index] == pytest.approx((ahead - behind) / (2 * step), abs=1e-7)
    for row, slope, change in zip(p, slopes, changes, strict=True):
        fisher = np.diag(row) - np.outer(row, row)
        assert fisher @ slope == pytest.approx(fisher @ change)
    assert variance == pytest.approx(((p * changes**2).sum(1) - (p * changes).sum(1) ** 2).mean())


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_the_expected_cost_meets_every_bound_and_no_price_is_higher_than_needed(budget, temperature):
    problem = tiny_problem(budget, seed=1).problem
    found = relaxed(problem)
    spent = expected(found, problem, temperature)
    assert (spent <= problem.limits.bounds).all()
    assert (found.prices >= 0).all()
    if len(found.prices) == 1 and found.prices[0] > 0:
        assert spent[0] == pytest.approx(problem.limits.bounds[0], rel=1e-6)


def test_invalid_levels_have_no_probability_and_rows_sum_to_one():
    problem = tiny_problem(seed=0).problem
    p = np.exp(relaxed(problem).log_probabilities(0.5))
    assert (p[~problem.space.valid] == 0).all()
    assert p.sum(axis=1) == pytest.approx(np.ones(len(problem.space)))


def test_descent_follows_a_fixed_gradient_to_the_best_levels():
    """With the same table at every step the probabilities end on the cheapest feasible choice of that table."""
    problem = tiny_problem(seed=2).problem
    found, rng = relaxed(problem), np.random.default_rng(3)
    table = rng.normal(size=problem.space.valid.shape)
    before = (np.exp(found.log_probabilities(1.0)) * np.where(problem.space.valid, table, 0)).sum()
    for _ in range(200):
        found.descend(table, 1.0, 0.1)
        found.log_probabilities(1.0)
    after = (np.exp(found.log_probabilities(1.0)) * np.where(problem.space.valid, table, 0)).sum()
    assert after < before
    assert (expected(found, problem, 1.0) <= problem.limits.bounds).all()


@pytest.mark.parametrize("seed", range(3))
def test_it_comes_near_the_optimum_of_an_additive_objective(seed):
    synthetic = quadratic_problem(blocks=6, seed=seed)
    space, limits = synthetic.problem.space, synthetic.problem.limits
    start = uniform(space, limits)
    least = synthetic.mean(cheapest(space, limits, synthetic.errors**2))
    found = synthetic.mean(drive(make_searcher("differentiable", {}, synthetic.problem, seed), synthetic).best)
    assert found - least <= 0.05 * (synthetic.mean(start) - least)


def test_noise_leaves_it_better_than_uniform():
    synthetic = quadratic_problem(blocks=6, noise=0.5)
    best = drive(make_searcher("differentiable", {}, synthetic.problem, 0), synthetic).best
    assert synthetic.mean(best) < 0.8 * synthetic.mean(uniform(synthetic.problem.space, synthetic.problem.limits))
