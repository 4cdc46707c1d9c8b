import itertools

import numpy as np
import pytest

from sparsearch.errors import ConfigError
from sparsearch.search import Sense, check_searcher, make_searcher
from sparsearch.search.quadratic import _promising
from sparsearch.search.surrogate import Surrogate, fisher_costs, weighted_mean, within
from sparsearch.space import Allocation
from sparsearch.space.repair import cheapest, uniform
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import drive


def sensed(synthetic, allocation, count=16):
    return synthetic.sensitivities(Sense(allocation, tuple(range(count))))


def test_predictions_of_one_site_moves_are_exact_for_a_quadratic_objective():
    """Averaged over many draws, gradient + curvature is the true change of every single move."""
    synthetic = quadratic_problem(blocks=1, sequences=20_000)
    space = synthetic.problem.space
    here = uniform(space, synthetic.problem.limits)
    surrogate = Surrogate(fading=1.0)
    surrogate.add(here, sensed(synthetic, here, 20_000))
    predicted = surrogate.changes(here).mean
    for site in range(len(space)):
        for level in range(int(space.counts[site])):
            true = synthetic.mean(here.replace({site: level})) - synthetic.mean(here)
            assert predicted[site, level] == pytest.approx(true, rel=0.05, abs=2e-4)


def test_samples_from_elsewhere_are_moved_to_where_the_search_is():
    synthetic = quadratic_problem(blocks=1, sequences=20_000)
    space = synthetic.problem.space
    there = uniform(space, synthetic.problem.limits)
    here = Allocation.of(np.clip(there.array + np.array([1, -2, 3, 0, -1, 2, -3]), 0, space.counts - 1))
    moved, direct = Surrogate(fading=1.0), Surrogate(fading=1.0)
    moved.add(there, sensed(synthetic, there, 20_000))
    direct.add(here, sensed(synthetic, here, 20_000))
    np.testing.assert_allclose(moved.changes(here).mean, direct.changes(here).mean, rtol=0.1, atol=2e-3)


def test_moves_to_the_current_levels_change_nothing_and_bootstraps_scatter_around_the_mean():
    synthetic = quadratic_problem(noise=0.5)
    here = uniform(synthetic.problem.space, synthetic.problem.limits)
    surrogate = Surrogate(fading=0.5)
    for _ in range(3):
        surrogate.add(here, sensed(synthetic, here))
    mean = surrogate.changes(here).mean
    assert not mean[np.arange(len(here)), here.array].any()
    rng = np.random.default_rng(0)
    draws = np.stack([surrogate.changes(here, rng).mean for _ in range(400)])
    error = draws.std(axis=0) / 20
    assert (np.abs(draws.mean(axis=0) - mean) <= 5 * error + 1e-9).mean() > 0.99


def test_standard_errors_are_those_of_a_weighted_mean():
    rng = np.random.default_rng(0)
    rows, weights = rng.normal(size=(4000, 3)), np.repeat([1.0, 3.0], 2000)
    found = weighted_mean(rows, weights)
    np.testing.assert_allclose(found.mean, np.average(rows, axis=0, weights=weights))
    # Variance 1 each: sum w^2 / (sum w)^2.
    np.testing.assert_allclose(found.error, np.sqrt((weights**2).sum()) / weights.sum(), rtol=0.05)
    alike = weighted_mean(rows[:50], np.full(50, 0.7))
    np.testing.assert_allclose(alike.error, rows[:50].std(axis=0, ddof=1) / np.sqrt(50))
    assert not weighted_mean(rows[:1], np.ones(1)).error.any()


def test_caution_leaves_the_current_levels_alone_and_makes_every_move_dearer():
    synthetic = quadratic_problem(noise=0.5)
    here = uniform(synthetic.problem.space, synthetic.problem.limits)
    surrogate = Surrogate(fading=1.0)
    surrogate.add(here, sensed(synthetic, here))
    found = surrogate.changes(here)
    cautious = found.cautious(2.0)
    assert not cautious[np.arange(len(here)), here.array].any()
    assert (cautious >= found.mean).all() and (cautious > found.mean).any()


def test_samples_fade_when_the_search_moves_and_are_dropped():
    synthetic = quadratic_problem(noise=0.5)
    first, second = synthetic.problem.space.dense(), uniform(synthetic.problem.space, synthetic.problem.limits)
    surrogate = Surrogate(fading=0.1)
    for here in (first, first, second, second):
        surrogate.add(here, sensed(synthetic, here))
    assert [sample.weight for sample in surrogate._samples] == pytest.approx([1.6, 1.6, 16, 16])
    surrogate.add(first, sensed(synthetic, first))
    assert [sample.weight for sample in surrogate._samples] == pytest.approx([1.6, 1.6, 16])


def test_levels_outside_the_window_are_not_taken_unless_nothing_else_is_feasible():
    synthetic = quadratic_problem()
    space, limits = synthetic.problem.space, synthetic.problem.limits
    here = uniform(space, limits)
    values = np.random.default_rng(0).normal(size=space.valid.shape)
    for radius in (1, 2):
        found = cheapest(space, limits, within(space.valid.shape[1], here.array, radius, values))
        assert np.abs(found.array - here.array).max() <= radius


def test_fisher_costs_are_half_mean_squares():
    synthetic = quadratic_problem(sequences=4)
    found = sensed(synthetic, synthetic.problem.space.dense(), 4)
    expected = 0.5 * (found.features.astype(np.float64) ** 2).mean(axis=0)
    np.testing.assert_allclose(fisher_costs(found), expected)


@pytest.mark.parametrize("interaction", [0.0, 0.5])
def test_it_comes_near_the_optimum_with_far_fewer_forwards_than_evopress(interaction):
    synthetic = quadratic_problem(blocks=3, sequences=64, noise=0.3, interaction=interaction)
    quadratic = drive(
        make_searcher("quadratic", {"start": 32, "most": 32, "kicks": 1}, synthetic.problem, 0), synthetic
    )
    options = {"generations": 60, "offspring": 16, "survivors": [4, 1], "tokens": [256, 2048]}
    evopress = drive(make_searcher("evopress", options, synthetic.problem, 0), synthetic)
    # It stops where a round gains under 0.2 %.
    assert synthetic.mean(quadratic.best) <= synthetic.mean(evopress.best) * 1.004
    forwards = [sum(request.forwards for request in run.requests) for run in (quadratic, evopress)]
    assert forwards[0] < forwards[1] / 2


def test_a_round_that_gains_nothing_makes_the_samples_grow_and_a_kick_begins_anew():
    synthetic = quadratic_problem(sequences=64)
    options = {"start": 4, "sequences": 4, "sensed": 32, "most": 32, "patience": 3}
    run = drive(make_searcher("quadratic", options, synthetic.problem, 0), synthetic)
    sizes = [len(request.sequences) for request in run.requests[1:] if isinstance(request, Sense)]
    begins = [index for index in range(1, len(sizes)) if sizes[index] < sizes[index - 1]]
    assert len(begins) >= 3
    for first, last in itertools.pairwise([0, *begins, len(sizes)]):
        one = sizes[first:last]
        assert one == sorted(one) and one[0] == 4
        # To full size, where three rounds gain nothing; after a kick three rounds of any size end it.
        assert one[-1] == (32 if first == 0 else 16)


def test_proposals_are_compared_on_one_set_of_sequences_with_the_current_allocation():
    """Or with the best one, at the end of a descent from a kick."""
    synthetic = quadratic_problem(noise=0.3)
    searcher = make_searcher("quadratic", {"start": 8, "sequences": 4}, synthetic.problem, 0)
    current, ends, bests = None, 0, []
    while (request := searcher.ask()) is not None:
        if isinstance(request, Sense):
            current = request.allocation
        elif request.allocations[0] != current:
            ends += 1
            assert request.allocations[0] == searcher.progress.incumbent
            assert len(request.allocations) == 2
        searcher.tell(synthetic.answer(request))
        bests.append(searcher.progress.incumbent)
    assert ends
    assert searcher.best == bests[-1]


def test_sensitivities_and_comparisons_never_share_sequences():
    synthetic = quadratic_problem(sequences=32, noise=0.3)
    run = drive(make_searcher("quadratic", {"start": 8, "sequences": 4}, synthetic.problem, 0), synthetic)
    sensed, compared, current = (), (), None
    for request in run.requests[1:]:
        if isinstance(request, Sense):
            sensed, compared, current = request.sequences, (), request.allocation
        elif request.allocations[0] == current:
            assert not set(request.sequences) & {*sensed, *compared}
            compared += request.sequences
            assert len(compared) in (len(sensed) // 2, len(sensed))


def test_the_better_half_below_the_current_one_goes_on():
    values = np.array([[1.0, 3.0], [2.5, 2.5], [0.5, 2.5], [1.0, 2.0], [1.9, 1.9], [np.nan, 0.0]])
    assert _promising(values) == [1, 2, 3]  # means 1.5, 1.5 and 1.9 against 2
    assert _promising(values[:3]) == [1]
    assert _promising(values[[0, 1, 5]]) == []


def test_a_gain_below_the_tolerance_is_taken_and_counts_as_none():
    synthetic = quadratic_problem(sequences=64, noise=0.3)
    options = {"start": 4, "sequences": 16, "most": 16, "kicks": 1}
    runs = [
        drive(make_searcher("quadratic", options | {"tolerance": share}, synthetic.problem, 0), synthetic)
        for share in (0.0, 1.0)
    ]
    rounds = [sum(isinstance(request, Sense) for request in run.requests) - 1 for run in runs]
    # Two rounds of the first descent, two of the one kick.
    assert rounds[0] > rounds[1] == 4
    started = runs[1].requests[1].allocation
    assert all(synthetic.mean(run.best) < synthetic.mean(started) for run in runs)


def test_kicks_find_what_rounds_alone_do_not():
    """Where sites interact there are many local optima; no single descent's is the best one."""
    options = {"start": 8, "sequences": 8, "most": 16, "patience": 1}
    for seed in range(3):
        synthetic = quadratic_problem(blocks=4, sequences=128, noise=0.3, interaction=2.0)
        run = drive(make_searcher("quadratic", options, synthetic.problem, seed), synthetic)
        first = next(progress.incumbent for progress in run.progress if progress.done == 1)
        assert synthetic.mean(run.best) < 0.97 * synthetic.mean(first)


def test_it_says_why_it_stopped():
    synthetic = quadratic_problem(noise=0.3, sequences=64)
    searcher = make_searcher("quadratic", {"sequences": 4, "most": 16, "kicks": 2}, synthetic.problem, 0)
    assert searcher.outcome == ""
    drive(searcher, synthetic)
    assert searcher.outcome.startswith("the last 2 of ")
    assert searcher.outcome.endswith(" kicks gained less than 1% each")


@pytest.mark.parametrize(("interaction", "seed", "prolonged"), [(0.0, 0, False), (1.0, 3, False), (2.0, 4, True)])
def test_a_kick_that_gains_a_per_cent_prolongs_the_search_and_a_smaller_gain_does_not(interaction, seed, prolonged):
    synthetic = quadratic_problem(blocks=4, sequences=128, interaction=interaction)
    options = {"start": 8, "sequences": 8, "most": 16, "patience": 1, "kicks": 2}
    searcher = make_searcher("quadratic", options, synthetic.problem, seed)
    run = drive(searcher, synthetic)
    ends = {progress.done: synthetic.mean(progress.incumbent) for progress in run.progress if progress.done}
    gains = [1 - after / before for before, after in itertools.pairwise([*ends.values(), synthetic.mean(run.best)])]
    failures = 4 if prolonged else 2
    assert (max(gains) >= 0.01) == prolonged
    assert max(gains[-failures:]) < 0.01
    assert searcher.outcome == f"the last {failures} of {len(gains)} kicks gained less than 1% each"


@pytest.mark.parametrize(
    "options",
    [
        {"start": 0},
        {"fading": 1.5},
        {"radius": 0},
        {"caution": -1},
        {"patience": "x"},
        {"strength": -1},
        {"kicks": 0},
        {"tolerance": 2},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigError, match=rf"searcher\.{next(iter(options))}"):
        check_searcher("quadratic", options)
