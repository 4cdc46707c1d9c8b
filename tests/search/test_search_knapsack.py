import numpy as np
import pytest
from search_references import BUDGETS, least_mean, least_sum, tiny_problem

from sparsearch.errors import ConfigError
from sparsearch.search import SEARCHERS, check_searcher, make_searcher
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive


def run(name, options, synthetic):
    return drive(make_searcher(name, options, synthetic.problem, 0), synthetic)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name, options", [("knapsack", {"curves": "one_at_a_time", "levels": 3}), ("rd", {})])
def test_it_is_the_true_optimum_of_an_additive_objective(name, options, seed, budget):
    synthetic = tiny_problem(budget, seed=seed, noise=0.5)
    best = run(name, options, synthetic).best
    assert synthetic.mean(best) == pytest.approx(least_mean(synthetic), rel=1e-9)


def test_interpolated_curves_come_near_the_optimum_for_one_request():
    synthetic = quadratic_problem(blocks=3, noise=0.3)
    found = run("knapsack", {"curves": "one_at_a_time", "levels": 4}, synthetic)
    assert len(found.requests) == 1
    assert len(found.requests[0].allocations) == 1 + 4 * len(synthetic.problem.space)
    assert synthetic.mean(found.best) <= 1.02 * synthetic.mean(synthetic.additive_optimum())


def test_layer_errors_and_fisher_costs_give_what_the_searchers_of_those_names_give():
    synthetic = quadratic_problem(noise=0.3)
    for curves in ("fisher", "layer_error"):
        alone = run(curves, {}, synthetic)
        found = run("knapsack", {"curves": curves}, synthetic)
        assert (found.requests, found.best) == (alone.requests, alone.best)


@pytest.mark.parametrize("curves", ["fisher", "one_at_a_time", "layer_error"])
def test_only_layer_error_curves_want_the_layers_errors(curves):
    options = check_searcher("knapsack", {"curves": curves})
    assert SEARCHERS["knapsack"].wants_errors(options) == (curves == "layer_error")


@pytest.mark.parametrize("seed", range(5))
def test_the_worst_distortion_is_the_sum_of_each_sites_worst_sequence(seed):
    synthetic = tiny_problem(seed=seed, noise=1.0, sequences=5)
    best = run("rd", {"distortion": "worst"}, synthetic).best
    worst = synthetic.errors**2 * synthetic.weights.max(axis=0)[:, None]
    found = worst[np.arange(len(best)), best.array].sum()
    assert found == pytest.approx(least_sum(synthetic, worst), rel=1e-9)


def test_rd_measures_every_level_of_every_site_once():
    synthetic = tiny_problem()
    (request,) = run("rd", {}, synthetic).requests
    assert len(request.allocations) == 1 + 3 * 3


@pytest.mark.parametrize(
    "name, options",
    [
        ("knapsack", {"curves": "fischer"}),
        ("knapsack", {"levels": 0}),
        ("knapsack", {"sequences": True}),
        ("rd", {"distortion": 3}),
        ("rd", {"sequences": -1}),
    ],
)
def test_bad_options_are_refused(name, options):
    with pytest.raises(ConfigError, match=rf"searcher\.{next(iter(options))}"):
        check_searcher(name, options)


def test_a_wrong_name_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"'fischer' is no choice; allowed: .*did you mean 'fisher'"):
        check_searcher("knapsack", {"curves": "fischer"})
