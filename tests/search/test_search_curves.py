import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsearch.search.curves import finite, measured_changes, monotone_curves, probed_levels
from sparsearch.search.scores import Scores
from sparsearch.space import Allocation
from sparsearch.space.budget import Budget
from sparsearch.testing import quadratic_problem

SPACE = quadratic_problem(blocks=1).problem.space


def measured(synthetic, base, levels, sequences=(0, 1, 2), breaks=()):
    steps = measured_changes(synthetic.problem.space, Scores(sequences), base, levels)
    request = next(steps)
    values = synthetic.values(request.allocations, request.sequences)
    values[list(breaks)] = np.nan
    with pytest.raises(StopIteration) as end:
        steps.send(values)
    return request, end.value.value


@pytest.mark.parametrize("points", [1, 2, 3, 8, 9, 50])
def test_probed_levels_are_spread_and_reach_the_last(points):
    for levels, count in zip(probed_levels(SPACE, points), SPACE.counts, strict=True):
        assert len(set(levels)) == len(levels) == min(points, count - 1)
        assert levels[0] > 0 and levels[-1] == count - 1
        assert np.ptp(np.diff([0, *levels])) <= 1


def test_few_levels_are_all_probed_and_a_single_one_is_not():
    assert probed_levels(quadratic_problem(blocks=1, levels=(0.5, 0.9)).problem.space, 5) == [[1, 2]] * 7
    assert probed_levels(quadratic_problem(Budget(params="1x"), blocks=1, levels=()).problem.space, 5) == [[]] * 7


def test_measured_changes_are_the_paired_differences_of_single_moves():
    synthetic = quadratic_problem(blocks=1, noise=0.5, interaction=0.3)
    base = Allocation.of(np.arange(7) % 4)
    levels = [[0, 5], [], [2], [9, 1], [], [3], [0]]
    request, changes = measured(synthetic, base, levels)
    assert request.allocations[0] == base
    for site, row in enumerate(levels):
        for level in range(10):
            if level in {*row, base.levels[site]}:
                moved = synthetic.values([base.replace({site: level}), base], (0, 1, 2))
                np.testing.assert_allclose(changes[:, site, level], moved[0] - moved[1], atol=1e-15)
            else:
                assert np.isnan(changes[:, site, level]).all()


def test_broken_models_are_infinite_changes():
    synthetic = quadratic_problem(blocks=1)
    levels = [[9], [9], [], [], [], [], []]
    _, changes = measured(synthetic, synthetic.problem.space.dense(), levels, breaks=[2])
    assert np.isfinite(changes[:, 0, 9]).all() and np.isinf(changes[:, 1, 9]).all()
    _, changes = measured(synthetic, synthetic.problem.space.dense(), levels, breaks=[0])
    assert np.isinf(changes[:, :2, 9]).all() and not changes[:, :, 0].any()


def test_finite_puts_broken_levels_behind_all_others_and_leaves_what_is_unknown():
    found = finite(np.array([[0.0, 2.0, np.inf], [0.0, np.nan, -5.0]]))
    assert np.isnan(found[1, 1]) and found[0, 2] > 100 * 5 and np.isfinite(found[0, 2])
    assert np.isfinite(finite(np.full((2, 2), np.inf))).all()


@given(st.integers(0, 2**32), st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_curves_are_monotone_and_go_through_monotone_measurements(seed, points):
    rng = np.random.default_rng(seed)
    true = rng.exponential(size=SPACE.valid.shape).cumsum(axis=1)
    changes = np.full(true.shape, np.nan)
    for site, levels in enumerate(probed_levels(SPACE, points)):
        changes[site, [0, *levels]] = true[site, [0, *levels]]
    known = ~np.isnan(changes)
    curves = monotone_curves(SPACE, changes)
    assert (np.diff(curves, axis=1) >= -1e-12).all()
    np.testing.assert_allclose(curves[known], changes[known], rtol=1e-9, atol=1e-12)
    noisy = monotone_curves(SPACE, changes + rng.normal(size=true.shape))
    assert np.isfinite(noisy).all() and (np.diff(noisy, axis=1) >= -1e-12).all()


@pytest.mark.parametrize("power", [2, 3, 6])
def test_four_measured_levels_give_the_curves_of_powers_of_the_sparsity(power):
    true = np.nan_to_num(SPACE.sparsities) ** power
    changes = np.full(true.shape, np.nan)
    for site, levels in enumerate(probed_levels(SPACE, 4)):
        changes[site, [0, *levels]] = true[site, [0, *levels]]
    np.testing.assert_allclose(monotone_curves(SPACE, changes), true, atol=0.03 * true.max())


def test_levels_of_equal_sparsity_and_outside_what_is_known_get_values():
    space = quadratic_problem(blocks=1, levels=("2:4", 0.5, 0.75)).problem.space
    changes = np.full(space.valid.shape, np.nan)
    changes[:, 1], changes[:, 2] = 3.0, 4.0
    np.testing.assert_allclose(monotone_curves(space, changes), [[3, 3, 4, 4]] * len(space))
