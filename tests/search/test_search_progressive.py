import itertools
from dataclasses import replace

import numpy as np
import pytest
from search_references import BUDGETS, least_mean, tiny_problem

from sparsearch.errors import ConfigError
from sparsearch.search import check_searcher, make_searcher
from sparsearch.search.intervals import Intervals
from sparsearch.search.progressive import clearly_worse
from sparsearch.search.surrogate import Prediction
from sparsearch.space.budget import Budget
from sparsearch.space.repair import uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive


def intervals_of(searcher, synthetic):
    """The intervals after every request."""
    found = [searcher.intervals]
    while (request := searcher.ask()) is not None:
        searcher.tell(synthetic.answer(request))
        found.append(searcher.intervals)
    return found


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("seed", range(3))
def test_on_a_tiny_space_it_ends_near_the_optimum(budget, seed):
    synthetic = tiny_problem(budget, seed=seed, noise=0.2, interaction=0.2)
    options = {"rounds": 6, "samples": 12, "sequences": 4}
    best = drive(make_searcher("progressive", options, synthetic.problem, 0), synthetic).best
    assert synthetic.mean(best) <= 1.03 * least_mean(synthetic)


@pytest.mark.parametrize("seed", range(2))
def test_it_beats_random_search_at_equal_evaluations(seed):
    synthetic = quadratic_problem(blocks=4, noise=0.3, interaction=0.2, sequences=128, seed=seed)
    searcher = make_searcher("progressive", {"rounds": 6}, synthetic.problem, 0)
    best = synthetic.mean(drive(searcher, synthetic).best)
    options = {"evaluations": searcher.evaluations // 4, "sequences": 4, "radius": 3}
    rival = synthetic.mean(drive(make_searcher("random", options, synthetic.problem, 0), synthetic).best)
    level = synthetic.mean(uniform(synthetic.problem.space, synthetic.problem.limits))
    assert best < 0.85 * min(rival, level)


@pytest.mark.parametrize("budget", [0.5, 0.6, 0.8])
def test_intervals_only_shrink_and_hold_what_is_stood_by(budget):
    synthetic = quadratic_problem(Budget(sparsity=budget), blocks=2, noise=0.1, sequences=64)
    searcher = make_searcher("progressive", {"rounds": 5, "error": 0.1}, synthetic.problem, 0)
    found = intervals_of(searcher, synthetic)
    for before, after in itertools.pairwise(found):
        assert (after.low >= before.low).all() and (after.high <= before.high).all()
    assert found[-1].sizes.sum() < 0.7 * found[0].sizes.sum()


def test_on_an_additive_objective_the_optimum_mostly_survives():
    synthetic = quadratic_problem(blocks=2, sequences=64)
    searcher = make_searcher("progressive", {"rounds": 8}, synthetic.problem, 0)
    left = intervals_of(searcher, synthetic)[-1]
    levels = synthetic.additive_optimum().array
    # Within a level: what rounding to the budget takes.
    assert ((levels >= left.low - 1) & (levels <= left.high + 1)).mean() > 0.9


def test_levels_are_judged_at_the_price_of_the_budget_and_by_their_errors():
    synthetic = quadratic_problem(blocks=2)
    space, limits = synthetic.problem.space, synthetic.problem.limits
    optimum = synthetic.additive_optimum()
    table = synthetic.errors**2
    sites = np.arange(len(space))
    mean = table - table[sites, optimum.array][:, None]
    intervals = Intervals.all(space)
    sure = clearly_worse(Prediction(mean, np.full(mean.shape, 1e-12)), limits, intervals, optimum, 2.0)
    assert not sure[sites, optimum.array].any()
    # Dense is worse than the optimum only because of what it costs.
    free = clearly_worse(Prediction(mean, np.full(mean.shape, 1e-12)), loose(limits), intervals, optimum, 2.0)
    assert sure[:, 0].sum() > 0.8 * len(space) and not free[:, 0].any()
    unsure = clearly_worse(Prediction(mean, np.full(mean.shape, 1e3)), limits, intervals, optimum, 2.0)
    assert not unsure.any()


def loose(limits):
    return replace(limits, bounds=limits.bounds * 100)


@pytest.mark.parametrize(
    "options", [{"rounds": 0}, {"samples": True}, {"sequences": 0}, {"error": 0}, {"error": 0.6}, {"spread": "x"}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigError, match=rf"searcher\.{next(iter(options))}"):
        check_searcher("progressive", options)
