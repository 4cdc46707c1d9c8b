import numpy as np
import pytest
from search_references import BUDGETS, least_mean, tiny_problem

from sparsearch.errors import ConfigError
from sparsearch.search import check_searcher, make_searcher
from sparsearch.search.spdy import prior_costs
from sparsearch.space.repair import uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("prior", ["kept", "levels"])
def test_enough_trials_find_the_optimum(prior, budget):
    synthetic = tiny_problem(budget, noise=0.5)
    options = {"prior": prior, "vectors": 60, "patience": 20}
    best = drive(make_searcher("spdy", options, synthetic.problem, 0), synthetic).best
    assert synthetic.mean(best) == pytest.approx(least_mean(synthetic), rel=1e-9)


def test_equal_allocations_are_evaluated_once_on_the_same_sequences_uniform_first():
    synthetic = tiny_problem()
    searcher = make_searcher("spdy", {"vectors": 20, "patience": 10}, synthetic.problem, 0)
    run = drive(searcher, synthetic)
    asked = [allocation for request in run.requests for allocation in request.allocations]
    assert len(asked) == len(set(asked)) < searcher.progress.done
    assert len({request.sequences for request in run.requests}) == 1
    assert asked[0] == uniform(synthetic.problem.space, synthetic.problem.limits)
    assert run.best == asked[int(np.argmin([synthetic.mean(allocation) for allocation in asked]))]


def test_trials_end_after_as_many_failures_as_there_is_patience_for_each_number_of_coefficients():
    synthetic = tiny_problem()
    synthetic.errors[:] = 0  # nothing is ever gained
    searcher = make_searcher("spdy", {"vectors": 4, "share": 0.5, "patience": 3}, synthetic.problem, 0)
    drive(searcher, synthetic)
    assert searcher.progress.done == 4 + 2 * 3


def test_the_kept_prior_is_the_published_one_on_the_published_grid():
    """Levels that each keep the same fraction of the level before, down to 1 %: cost (i / (n - 1))^2."""
    grid = [float(1 - 0.01 ** (index / 10)) for index in range(1, 11)]
    space = quadratic_problem(block={"site": (1000, 1000)}, levels=grid).problem.space
    for prior in ("kept", "levels"):
        costs = prior_costs(space, prior)
        assert costs[:, -1].sum() == pytest.approx(1, rel=1e-4)
        # Whole weights are removed, so sparsities are a little off the grid.
        np.testing.assert_allclose(costs / costs[:, -1:], [(np.arange(11) / 10) ** 2] * 2, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"prior": "x"}, {"vectors": 0}, {"share": 0}, {"share": 1.5}, {"share": True}, {"patience": 2.5}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigError, match=rf"searcher\.{next(iter(options))}"):
        check_searcher("spdy", options)
