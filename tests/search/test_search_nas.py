import numpy as np
import pytest
from search_references import BUDGETS, least_mean, tiny_problem

from sparsearch.errors import ConfigError
from sparsearch.search import check_searcher, make_searcher
from sparsearch.space.repair import cheapest, uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("seed", range(3))
def test_on_a_tiny_space_it_ends_near_the_optimum(budget, seed):
    synthetic = tiny_problem(budget, seed=seed, noise=0.2, interaction=0.2)
    options = {"evaluations": 60, "start": 16, "batch": 8, "sequences": 4}
    best = drive(make_searcher("nas", options, synthetic.problem, 0), synthetic).best
    assert synthetic.mean(best) <= 1.02 * least_mean(synthetic)


@pytest.mark.parametrize("seed", range(2))
def test_it_beats_random_search_at_equal_evaluations(seed):
    synthetic = quadratic_problem(blocks=4, noise=0.3, interaction=0.2, sequences=128, seed=seed)
    searcher = make_searcher("nas", {"evaluations": 128, "start": 32}, synthetic.problem, 0)
    best = synthetic.mean(drive(searcher, synthetic).best)
    options = {"evaluations": searcher.evaluations // 4, "sequences": 4, "radius": 3}
    rival = synthetic.mean(drive(make_searcher("random", options, synthetic.problem, 0), synthetic).best)
    level = synthetic.mean(uniform(synthetic.problem.space, synthetic.problem.limits))
    assert best < 0.85 * min(rival, level)


def test_the_design_holds_closed_forms_and_every_batch_the_best_so_far():
    synthetic = quadratic_problem(blocks=2, sequences=64)
    problem = synthetic.problem
    searcher = make_searcher("nas", {"evaluations": 60, "start": 20, "batch": 12}, problem, 0)
    run = drive(searcher, synthetic)
    asked = run.requests[0].allocations
    level = uniform(problem.space, problem.limits)
    assert asked[:2] == (level, cheapest(problem.space, problem.limits, np.nan_to_num(problem.errors)))
    for request, before in zip(run.requests[1:-2], run.progress[1:], strict=False):
        assert before.incumbent in request.allocations
    searched = run.requests[:-2]
    assert sum(len(request.allocations) for request in searched) <= 60
    assert len({request.sequences for request in searched}) > 1
    assert level in run.requests[-2].allocations


@pytest.mark.parametrize(
    "options", [{"evaluations": 0}, {"start": 0}, {"batch": 1.5}, {"sequences": None}, {"caution": -1}]
)
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigError, match=rf"searcher\.{next(iter(options))}"):
        check_searcher("nas", options)
