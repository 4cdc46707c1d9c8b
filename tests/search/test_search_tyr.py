import itertools

import numpy as np
import pytest
from search_references import least_mean

from sparsearch.errors import ConfigError
from sparsearch.search import Rebuild, check_searcher, make_searcher
from sparsearch.search.evopress import EvoPress, EvoPressOptions
from sparsearch.seeds import spawn
from sparsearch.space import Budget
from sparsearch.space.repair import uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive

SMALL = {"rounds": 3, "generations": 5, "offspring": 12, "survivors": [4, 1], "tokens": [128, 2048]}
FINE = tuple(round(0.05 * step, 2) for step in range(1, 20))


def small(synthetic, seed=0, **changes):
    return make_searcher("tyr", SMALL | changes, synthetic.problem, seed)


def test_defaults_are_the_published_schedule():
    options = check_searcher("tyr", {})
    assert (options.generations, options.offspring, options.rounds) == (50, 128, 3)
    assert options.survivors == (16, 4, 1)
    assert options.tokens == (2048, 16384, 131072)


def test_each_round_offers_nine_levels_around_the_winner_of_the_one_before_at_half_the_step():
    synthetic = quadratic_problem(levels=FINE, noise=0.5)
    run = drive(small(synthetic), synthetic)
    requests = iter(run.requests)
    centre = uniform(synthetic.problem.space, synthetic.problem.limits)
    for number, step in enumerate((4, 2, 1)):
        moved = []
        for request in itertools.islice(requests, 2 * 5):
            moved += [allocation.array - centre.array for allocation in request.allocations]
        assert np.all(np.array(moved) % step == 0) and np.abs(moved).max() <= 4 * step
        assert np.abs(moved).max() >= step
        centre = run.progress[2 * 5 * (number + 1)].incumbent
    assert next(requests, None) is None
    assert run.best == centre


def test_every_round_but_the_first_has_a_supernet_built_around_its_start():
    synthetic = quadratic_problem(levels=FINE, noise=0.5)
    searcher = small(synthetic, rebuild=True)
    run = drive(searcher, synthetic)
    places = [index for index, request in enumerate(run.requests) if isinstance(request, Rebuild)]
    assert places == [10, 21] and searcher.rebuilds == 2
    for place in places:
        assert run.requests[place].allocation == run.progress[place].incumbent
        assert run.requests[place].allocation in run.requests[place + 2].allocations
    # On an objective that no supernet changes, it is the same search.
    assert run.best == drive(small(synthetic), synthetic).best
    assert small(synthetic).rebuilds == 0


def test_a_round_that_sees_the_whole_grid_is_evopress():
    synthetic = quadratic_problem(Budget(sparsity=0.5), levels=(0.2, 0.4, 0.5, 0.6, 0.8), noise=0.5)
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in SMALL.items()}
    options.pop("rounds")
    plain = EvoPress(synthetic.problem, EvoPressOptions(**options), spawn(3, "searcher", "tyr"))
    expected = drive(plain, synthetic)
    run = drive(small(synthetic, seed=3, rounds=1), synthetic)
    assert run.requests == expected.requests
    assert run.best == expected.best
    assert [step.incumbent for step in run.progress[:-1]] == [step.incumbent for step in expected.progress[:-1]]


def test_it_spends_what_it_announces():
    synthetic = quadratic_problem(levels=FINE)
    searcher = small(synthetic)
    run = drive(searcher, synthetic)
    spent = sum(len(request.allocations) * len(request.sequences) for request in run.requests)
    assert spent == searcher.evaluations == 3 * 5 * (12 * 1 + 5 * 16)
    assert (run.progress[-1].done, run.progress[-1].total) == (15, 15)


def test_the_incumbent_never_gets_worse_without_noise():
    synthetic = quadratic_problem(levels=FINE, interaction=0.5)
    run = drive(small(synthetic, generations=10), synthetic)
    values = [synthetic.mean(progress.incumbent) for progress in run.progress if progress.incumbent]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


def test_it_comes_near_the_optimum_of_a_tiny_space():
    synthetic = quadratic_problem(Budget(sparsity=0.5), blocks=1, levels=(0.2, 0.4, 0.5, 0.6, 0.8), interaction=0.3)
    optimum = least_mean(synthetic)
    start = synthetic.mean(uniform(synthetic.problem.space, synthetic.problem.limits))
    found = [synthetic.mean(drive(small(synthetic, seed, generations=20), synthetic).best) for seed in range(3)]
    assert np.median(found) - optimum < 0.1 * (start - optimum)


def test_on_a_fine_grid_it_is_further_than_as_many_generations_of_single_steps():
    synthetic = quadratic_problem(levels=FINE, blocks=3)
    schedule = {"offspring": 12, "survivors": [4, 1], "tokens": [128, 2048]}
    found, plain = [], []
    for seed in range(3):
        found.append(synthetic.mean(drive(small(synthetic, seed), synthetic).best))
        evopress = make_searcher("evopress", schedule | {"generations": 15}, synthetic.problem, seed)
        plain.append(synthetic.mean(drive(evopress, synthetic).best))
    assert np.median(found) < np.median(plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"round": 5}, r"searcher\.round: tyr has no such option; .*did you mean 'rounds'"),
        ({"rebuild": 1}, r"searcher\.rebuild: 1 is not allowed; give true or false"),
        ({"rounds": 0}, r"searcher\.rounds: 0 is not allowed; give a positive integer"),
        ({"offspring": "64"}, r"searcher\.offspring: '64' is not allowed"),
        ({"tokens": [2048]}, r"searcher\.tokens: 1 stages, but searcher\.survivors has 3"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        check_searcher("tyr", options)
