import numpy as np
import pytest

from sparsearch.errors import ConfigError
from sparsearch.search import Evaluate, make_searcher
from sparsearch.space.repair import uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive


def run(options=None, seed=0, **problem):
    synthetic = quadratic_problem(**problem)
    given = {"generations": 8, "population": 12, "elite": 4, "spread": 0.1} | (options or {})
    return synthetic, drive(make_searcher("tracenas", given, synthetic.problem, seed), synthetic)


def test_it_finds_more_than_half_of_what_is_to_be_gained():
    synthetic, found = run({"generations": 30}, blocks=3)
    best, optimum = synthetic.mean(found.best), synthetic.mean(synthetic.additive_optimum())
    level = synthetic.mean(uniform(synthetic.problem.space, synthetic.problem.limits))
    assert level - best > 0.5 * (level - optimum) > 0


def test_every_generation_is_new_and_seen_on_the_same_sequences_and_the_best_of_all_wins():
    synthetic, found = run(noise=0.3)
    assert len({request.sequences for request in found.requests}) == 1
    assert [len(request.allocations) for request in found.requests] == [12] * 8
    allocations = [each for request in found.requests for each in request.allocations]
    assert len(set(allocations)) == len(allocations)
    assert allocations[0] == uniform(synthetic.problem.space, synthetic.problem.limits)
    means = np.concatenate([answer.mean(axis=1) for answer in found.answers])
    assert found.best == allocations[int(means.argmin())]


def test_children_have_their_genes_from_the_elite_where_nothing_mutates():
    """Repair moves a site here and there."""
    _, found = run({"mutation": 0, "crossover": 1, "generations": 2})
    first, second = found.requests
    elite = [first.allocations[index].array for index in found.answers[0].mean(axis=1).argsort()[:4]]
    inherited = [np.any([child.array == parent for parent in elite], axis=0).mean() for child in second.allocations]
    assert np.mean(inherited) > 0.75


def test_without_crossover_and_mutation_there_are_no_children_and_it_ends():
    _, found = run({"mutation": 0, "crossover": 0})
    assert len(found.requests) == 1


def test_tokens_become_whole_sequences_and_bound_the_cost():
    synthetic, found = run({"tokens": 3 * 128 + 5, "generations": 2})
    length = synthetic.problem.tokens
    searcher = make_searcher("tracenas", {"tokens": 3 * length + 5}, synthetic.problem, 0)
    assert searcher.evaluations == 50 * 30 * 3
    assert all(isinstance(request, Evaluate) for request in found.requests)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"elite": 31}, r"searcher\.elite: 31 is more than searcher\.population, 30"),
        ({"crossover": 1.5}, r"searcher\.crossover: 1\.5 is not allowed; give a number from 0 to 1"),
        ({"tokens": 0}, r"searcher\.tokens: 0 is not allowed"),
    ],
)
def test_bad_options_are_told(options, message):
    with pytest.raises(ConfigError, match=message):
        make_searcher("tracenas", options, quadratic_problem().problem, 0)
