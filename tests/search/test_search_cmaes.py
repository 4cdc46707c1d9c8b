import subprocess
import sys

import numpy as np
import pytest
from test_search_bayesian import evaluated, left, search, smooth_problem

from sparsearch.errors import ConfigError
from sparsearch.search import Sense, check_searcher, coefficients, make_searcher
from sparsearch.search.surrogate import fisher_costs
from sparsearch.space.repair import cheapest, uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import PROBLEMS, drive


def test_far_nearer_to_the_optimum_than_random_search_at_equal_evaluations():
    found, drawn = [], []
    for seed in range(3):
        synthetic = smooth_problem(seed)
        _, run = search("cmaes", synthetic, seed, trials=120, basis="curve", coefficients=2)
        found.append(left(synthetic, run.best))
        plain = make_searcher("random", {"evaluations": 121, "sequences": 4}, synthetic.problem, seed)
        drawn.append(left(synthetic, drive(plain, synthetic).best))
    assert np.median(found) < 0.5 * np.median(drawn)


def test_generations_get_better_as_the_distribution_adapts():
    """Later draws are better than the first ones, which no draws from a fixed distribution would be."""
    synthetic = smooth_problem(1)
    _, run = search("cmaes", synthetic, trials=200, basis="curve", coefficients=2)
    optimum = synthetic.mean(synthetic.additive_optimum())
    above = [answer.mean() - optimum for answer in run.answers[1:]]
    assert np.mean(above[-5:]) < 0.7 * np.mean(above[:5])


def test_uniform_and_the_fisher_optimum_come_first():
    synthetic = quadratic_problem()
    space, limits = synthetic.problem.space, synthetic.problem.limits
    _, run = search("cmaes", synthetic)
    sensed, first = run.requests[:2]
    assert isinstance(sensed, Sense) and sensed.allocation == space.dense()
    assert first.allocations == (uniform(space, limits), cheapest(space, limits, fisher_costs(run.answers[0])))


@pytest.mark.parametrize("trials", [1, 9, 30])
def test_every_allocation_is_evaluated_once_on_the_same_sequences_within_the_trials(trials):
    synthetic = quadratic_problem(noise=0.5)
    searcher, run = search("cmaes", synthetic, trials=trials, basis="curve")
    asked = [allocation for request in run.requests for allocation in request.allocations]
    assert len(asked) == len(set(asked))
    assert len({request.sequences for request in run.requests}) == 1
    assert sum(request.forwards for request in run.requests) <= searcher.evaluations == (1 + trials) * 4
    means = evaluated(run)
    assert run.best == min(means, key=means.get)
    assert run.progress[-1].done == run.progress[-1].total == trials


def test_the_end_when_the_basis_holds_nothing_new():
    _, run = search("cmaes", PROBLEMS["one_site"](), trials=10_000, basis="curve")
    assert len(run.requests) == 1 and run.progress[-1].done <= 2 * coefficients.PATIENCE


def test_neither_the_global_generator_nor_hash_seeds_matter_and_nothing_is_printed():
    script = """
import numpy as np, sys
np.random.seed(int(sys.argv[1]))
from sparsearch.search import make_searcher
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive
synthetic = quadratic_problem(noise=0.3)
before = np.random.get_state()[1].tolist()
run = drive(make_searcher("cmaes", {"trials": 40, "sequences": 4, "basis": "curve"}, synthetic.problem, 5), synthetic)
assert np.random.get_state()[1].tolist() == before
print([request.allocations for request in run.requests])
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script, seed],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    assert outputs[0].stdout == outputs[1].stdout
    assert outputs[0].stdout.count("\n") == 1 and not outputs[0].stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"basis": "depth"}, "searcher.basis: 'depth'"),
        ({"span": 0}, "searcher.span: 0"),
        ({"trials": 0}, "searcher.trials: 0"),
        ({"batch": 3}, "searcher.batch"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ConfigError, match=message):
        check_searcher("cmaes", options)
