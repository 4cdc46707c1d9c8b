import json

import numpy as np
import pytest

from sparsearch.errors import ConfigError
from sparsearch.search import ALLOCATORS, SEARCHERS, Evaluate, check_searcher, describe_searchers, make_searcher
from sparsearch.search.random import latin_hypercube
from sparsearch.space.repair import uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive


def test_names_are_those_of_the_classes():
    assert {name: searcher.name for name, searcher in SEARCHERS.items()} == {name: name for name in SEARCHERS}


def test_unknown_searcher_gets_a_suggestion():
    with pytest.raises(ConfigError, match=r"searcher\.name: 'evopres' is no searcher; .*did you mean 'evopress'"):
        check_searcher("evopres", {})


def test_allocators_evaluate_nothing():
    with pytest.raises(ConfigError, match=r"searcher\.generations: uniform has no such option; it has no options"):
        check_searcher("uniform", {"generations": 5})
    synthetic = quadratic_problem(blocks=1)
    for name in ALLOCATORS:
        run = drive(make_searcher(name, {}, synthetic.problem, 0), synthetic)
        assert len(run.requests) <= 1
        assert not any(isinstance(request, Evaluate) for request in run.requests)


def test_descriptions_are_json_and_complete():
    rows = json.loads(json.dumps(describe_searchers()))
    assert [row["name"] for row in rows] == list(SEARCHERS)
    assert all(row["summary"].endswith(".") for row in rows)
    by_name = {row["name"]: row for row in rows}
    assert by_name["evopress"]["options"]["survivors"] == [8, 2, 1]
    assert by_name["evopress"]["evaluates"] and not by_name["uniform"]["evaluates"]


def test_different_seeds_differ():
    synthetic = quadratic_problem()
    first, second = (make_searcher("random", {"evaluations": 5}, synthetic.problem, seed) for seed in (0, 1))
    assert first.ask().allocations[1:] != second.ask().allocations[1:]


def test_random_returns_the_best_mean_of_distinct_allocations_on_common_sequences():
    synthetic = quadratic_problem(noise=0.5)
    run = drive(make_searcher("random", {"evaluations": 50, "sequences": 5}, synthetic.problem, 0), synthetic)
    assert len({request.sequences for request in run.requests}) == 1
    asked = [allocation for request in run.requests for allocation in request.allocations]
    assert len(asked) == len(set(asked)) == 50
    assert asked[0] == uniform(synthetic.problem.space, synthetic.problem.limits)
    means = np.concatenate(run.answers).mean(axis=1)
    assert run.best == asked[int(means.argmin())]


def test_random_with_a_radius_stays_near_uniform():
    synthetic = quadratic_problem()
    center = uniform(synthetic.problem.space, synthetic.problem.limits).array
    searcher = make_searcher("random", {"evaluations": 50, "radius": 1}, synthetic.problem, 0)
    distances = [np.abs(a.array - center).mean() for r in drive(searcher, synthetic).requests for a in r.allocations]
    assert 0 < np.mean(distances) < 1.5


def test_a_latin_hypercube_has_each_level_of_a_site_equally_often():
    low, high = np.array([0, 2, 5, 0]), np.array([3, 9, 5, 15])
    draws = latin_hypercube(low, high, 16, np.random.default_rng(0))
    assert draws.shape == (16, 4)
    for site in range(4):
        levels, counts = np.unique(draws[:, site], return_counts=True)
        assert levels.tolist() == list(range(low[site], high[site] + 1)) and np.ptp(counts) == 0
    assert len({tuple(draw) for draw in draws}) == 16


def test_stratified_random_search_draws_others_and_takes_true_or_false():
    synthetic = quadratic_problem()
    runs = [
        drive(make_searcher("random", {"evaluations": 33, "stratified": stratified}, synthetic.problem, 0), synthetic)
        for stratified in (False, True)
    ]
    first, second = ([a for request in run.requests for a in request.allocations] for run in runs)
    assert len(set(second)) == 33 and len(set(first) & set(second)) == 1
    with pytest.raises(ConfigError, match=r"searcher\.stratified: 1 is not allowed; give true or false"):
        check_searcher("random", {"stratified": 1})


@pytest.mark.parametrize("option", ["evaluations", "sequences", "radius"])
def test_random_refuses_bad_numbers(option):
    with pytest.raises(ConfigError, match=rf"searcher\.{option}: 0 is not allowed"):
        check_searcher("random", {option: 0})
