import numpy as np
import pytest
from search_references import BUDGETS, least_mean, tiny_problem

from sparsearch.errors import ConfigError
from sparsearch.search import check_searcher, make_searcher
from sparsearch.search.equilibrium import tuned_prices
from sparsearch.space.budget import Budget
from sparsearch.space.repair import uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive


def equilibrium(synthetic, **options):
    searcher = make_searcher("equilibrium", options, synthetic.problem, 0)
    return searcher, drive(searcher, synthetic)


def responses(payoffs, limits, prices):
    return (payoffs + np.tensordot(prices, limits.costs, axes=1)).argmin(axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_the_fixed_point_is_the_optimum_of_a_separable_convex_problem_up_to_one_level(seed):
    synthetic = quadratic_problem(blocks=2, seed=seed)
    searcher, run = equilibrium(synthetic, window=2, rounds=12)
    optimum = synthetic.additive_optimum()
    assert np.abs(searcher.played - optimum.array).max() <= 1
    assert searcher.progress.done < 12, "nobody moves any more"
    assert synthetic.mean(run.best) == pytest.approx(synthetic.mean(optimum), rel=1e-9)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("seed", range(3))
def test_with_windows_over_all_levels_it_is_the_optimum_of_an_additive_objective(seed, budget):
    synthetic = tiny_problem(budget, seed=seed, noise=0.5)
    _, run = equilibrium(synthetic, window=3, sequences=16)
    assert synthetic.mean(run.best) == pytest.approx(least_mean(synthetic), rel=1e-9)


def test_with_interactions_it_is_better_than_uniform_and_the_optimum_of_the_additive_part():
    synthetic = quadratic_problem(blocks=2, interaction=0.5)
    _, run = equilibrium(synthetic)
    level = uniform(synthetic.problem.space, synthetic.problem.limits)
    assert synthetic.mean(run.best) < min(synthetic.mean(level), synthetic.mean(synthetic.additive_optimum()))


def test_a_turn_asks_for_the_alternatives_of_one_site_within_its_window():
    synthetic = quadratic_problem(blocks=1, interaction=0.5)
    _, run = equilibrium(synthetic, window=1, rounds=3)
    assert len({request.sequences for request in run.requests}) == 1
    assert all(len(request.allocations) <= 2 for request in run.requests[1:])


def test_one_price_is_the_least_at_which_best_responses_meet_the_bound():
    synthetic = quadratic_problem(blocks=2)
    limits, payoffs = synthetic.problem.limits, synthetic.errors**2
    price = tuned_prices(payoffs, limits)
    assert price.shape == (1,) and price > 0
    assert (limits.spent(responses(payoffs, limits, price)) <= limits.bounds).all()
    assert (limits.spent(responses(payoffs, limits, price * (1 - 1e-6))) > limits.bounds).all()


def test_several_prices_meet_all_bounds_and_slack_ones_are_free():
    limits = quadratic_problem(Budget(sparsity=0.5, bytes="0.58x", flops="0.6x")).problem.limits
    for seed in range(5):
        payoffs = quadratic_problem(seed=seed).errors ** 2
        prices = tuned_prices(payoffs, limits)
        spent = limits.spent(responses(payoffs, limits, prices))
        assert (spent <= limits.bounds * (1 + 1e-9)).all()
    loose = quadratic_problem(Budget(params="1x", bytes="1x")).problem.limits
    assert not tuned_prices(payoffs, loose).any()


def test_levels_that_are_unknown_or_break_the_model_are_not_played():
    synthetic = quadratic_problem(blocks=2)
    payoffs = synthetic.errors**2
    payoffs[:, 9], payoffs[::2, 8] = np.inf, np.nan
    prices = tuned_prices(payoffs, synthetic.problem.limits)
    played = np.where(np.isfinite(payoffs), payoffs, np.inf)
    levels = responses(played, synthetic.problem.limits, prices)
    assert (synthetic.problem.limits.spent(levels) <= synthetic.problem.limits.bounds).all()


@pytest.mark.parametrize("options", [{"window": 0}, {"rounds": 0}, {"sequences": None}])
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigError, match=rf"searcher\.{next(iter(options))}"):
        check_searcher("equilibrium", options)
