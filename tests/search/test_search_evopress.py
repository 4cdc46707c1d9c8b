from dataclasses import replace

import numpy as np
import pytest
from search_references import least_mean

from sparsearch.errors import ConfigError
from sparsearch.search import check_searcher, evopress, make_searcher
from sparsearch.space import Budget
from sparsearch.space.repair import uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.problems import SyntheticProblem
from sparsearch.testing.searchers import drive

SMALL = {"generations": 6, "offspring": 12, "survivors": [4, 2, 1], "tokens": [128, 512, 4096]}


def small(synthetic, seed=0, **changes):
    return make_searcher("evopress", SMALL | changes, synthetic.problem, seed)


def test_defaults_are_the_published_schedule():
    options = check_searcher("evopress", {})
    assert (options.generations, options.offspring) == (400, 64)
    assert options.survivors == (8, 2, 1)
    assert options.tokens == (2048, 16384, 65536)


def test_tokens_become_whole_sequences_within_the_panel():
    synthetic = quadratic_problem(sequences=20, tokens=1000)
    searcher = small(synthetic, survivors=[8, 4, 2, 1], tokens=[1, 2999, 3000, 10**9])
    assert searcher.stages == [(8, 1), (4, 2), (2, 3), (1, 20)]


def test_each_stage_evaluates_the_best_of_the_one_before_and_the_parent_joins_the_last():
    synthetic = quadratic_problem(noise=0.5)
    run = drive(small(synthetic), synthetic)
    parent = uniform(synthetic.problem.space, synthetic.problem.limits)
    stages = list(zip(run.requests, run.answers, strict=True))
    for first, second, third in zip(stages[::3], stages[1::3], stages[2::3], strict=True):
        assert [len(request.sequences) for request, _ in (first, second, third)] == [1, 4, 16]
        assert len(first[0].allocations) == 12
        assert parent not in first[0].allocations
        assert set(second[0].allocations) == best(first, 4)
        assert set(third[0].allocations) == best(second, 2) | {parent}
        (parent,) = best(third, 1)
    assert run.best == parent
    assert len(run.requests) == 3 * 6


def best(stage, count):
    request, answer = stage
    order = np.argsort(answer.mean(axis=1), kind="stable")[:count]
    return {request.allocations[index] for index in order}


def test_it_spends_what_it_announces():
    synthetic = quadratic_problem()
    searcher = small(synthetic)
    run = drive(searcher, synthetic)
    spent = sum(len(request.allocations) * len(request.sequences) for request in run.requests)
    assert spent == searcher.evaluations == 6 * (12 * 1 + 4 * 4 + 3 * 16)


def test_every_generation_draws_fresh_sequences():
    synthetic = quadratic_problem(sequences=200)
    run = drive(small(synthetic), synthetic)
    assert len({request.sequences for request in run.requests if len(request.sequences) == 4}) == 6


def test_stages_that_select_nothing_are_skipped():
    synthetic = quadratic_problem()
    searcher = small(synthetic, offspring=2)
    run = drive(searcher, synthetic)
    assert [len(request.allocations) for request in run.requests] == [3] * 6
    assert searcher.evaluations == 6 * 3 * 16


def test_the_number_of_switches_is_the_smaller_of_two_draws_from_one_to_three(monkeypatch):
    synthetic = quadratic_problem(blocks=1)
    searcher = small(synthetic)
    calls = []
    monkeypatch.setattr(evopress, "level_switch", lambda space, limits, levels, rng: calls.append(0) or levels)
    counts = []
    for _ in range(6000):
        calls.clear()
        searcher._mutate(synthetic.problem.space.dense())
        counts.append(len(calls))
    shares = np.bincount(counts, minlength=4)[1:] / len(counts)
    np.testing.assert_allclose(shares, [5 / 9, 3 / 9, 1 / 9], atol=0.02)


def test_the_incumbent_never_gets_worse_without_noise():
    synthetic = quadratic_problem(interaction=0.5)
    run = drive(small(synthetic, generations=30), synthetic)
    values = [synthetic.mean(progress.incumbent) for progress in run.progress if progress.incumbent]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


def test_it_comes_near_the_optimum_of_a_tiny_space():
    synthetic = quadratic_problem(Budget(sparsity=0.5), blocks=1, levels=(0.2, 0.4, 0.5, 0.6, 0.8), interaction=0.3)
    optimum = least_mean(synthetic)
    start = synthetic.mean(uniform(synthetic.problem.space, synthetic.problem.limits))
    found = [synthetic.mean(drive(small(synthetic, seed, generations=60), synthetic).best) for seed in range(3)]
    assert np.median(found) - optimum < 0.1 * (start - optimum)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"generation": 5}, r"searcher\.generation: evopress has no such option; .*did you mean 'generations'"),
        ({"generations": 0}, r"searcher\.generations: 0 is not allowed; give a positive integer"),
        ({"offspring": "64"}, r"searcher\.offspring: '64' is not allowed"),
        ({"offspring": True}, r"searcher\.offspring: True is not allowed"),
        ({"tokens": [2048, 0, 1]}, r"searcher\.tokens: 0 is not allowed"),
        ({"tokens": []}, r"searcher\.tokens: the list is empty"),
        ({"tokens": [2048]}, r"searcher\.tokens: 1 stages, but searcher\.survivors has 3"),
        ({"survivors": [8, 2, 2]}, r"searcher\.survivors: \[8, 2, 2\] is not allowed"),
        ({"survivors": [2, 8, 1]}, r"searcher\.survivors: \[2, 8, 1\] is not allowed"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        check_searcher("evopress", options)


def test_one_stage_may_be_given_without_lists():
    options = check_searcher("evopress", {"survivors": 1, "tokens": 8192})
    assert (options.survivors, options.tokens) == ((1,), (8192,))


def test_a_start_is_the_first_parent():
    synthetic = quadratic_problem(noise=0.5)
    problem = synthetic.problem
    start = drive(small(synthetic, seed=7), synthetic).best
    assert start != uniform(problem.space, problem.limits)
    warm = SyntheticProblem(
        replace(problem, start=start), synthetic.errors, synthetic.weights, synthetic.mixing, synthetic.interaction
    )
    run = drive(small(warm), warm)
    assert start not in run.requests[0].allocations
    assert run.requests[2].allocations[-1] == start
    assert run.progress[1].incumbent == start
