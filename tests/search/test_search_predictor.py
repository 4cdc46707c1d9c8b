from dataclasses import replace

import numpy as np
import pytest

from sparsearch.search.predictor import Features, Predictor
from sparsearch.space.repair import repair, uniform
from sparsearch.testing import quadratic_problem

SYNTHETIC = quadratic_problem(blocks=3)
PROBLEM = SYNTHETIC.problem
SPACE = PROBLEM.space
FEATURES = Features.of(PROBLEM)
LEVEL = uniform(SPACE, PROBLEM.limits).array


def sampled(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([repair(SPACE, PROBLEM.limits, rng.integers(0, SPACE.counts), rng).array for _ in range(count)])


def truth(seed=0):
    """A function of additive and pairwise effects of the features, and its targets."""
    rng = np.random.default_rng(seed)
    _smooth, own, pairs = FEATURES.groups(sampled(500, seed=99))
    matrix = rng.normal(size=(pairs.shape[1], pairs.shape[1]))
    weights = rng.normal(size=own.shape[1])
    own_scale = np.std(own @ weights)
    pair_scale = np.std(np.einsum("ni,ij,nj->n", pairs, matrix, pairs))

    def values(levels):
        _, own, pairs = FEATURES.groups(levels)
        return own @ weights / own_scale + 0.5 * np.einsum("ni,ij,nj->n", pairs, matrix, pairs) / pair_scale

    return values


def fitted(values, count, noise=0.0, offsets=0.0):
    levels = sampled(count)
    rng = np.random.default_rng(5)
    batches = np.arange(count) // 20
    targets = values(levels) + noise * rng.normal(size=count) + offsets * rng.normal(size=count)[batches]
    return Predictor.fit(FEATURES, levels, targets, batches, None)


@pytest.mark.parametrize("seed", range(2))
def test_it_recovers_additive_and_pairwise_effects_and_its_errors_cover(seed):
    values = truth(seed)
    predictor = fitted(values, 400, noise=0.1, offsets=3.0)
    fresh = sampled(200, seed=7)
    found, true = predictor.contrast(fresh, LEVEL), values(fresh) - values(LEVEL[None])
    left = true - found.mean
    assert np.var(left) < 0.05 * np.var(true)
    covered = np.abs(left) < 2 * found.error
    assert covered.mean() > 0.85
    # Not by being vague.
    assert np.mean(found.error) < 0.5 * np.std(true)


def test_errors_shrink_with_evaluations_and_vanish_at_the_base():
    values = truth()
    fresh = sampled(50, seed=7)
    few, many = (fitted(values, count, noise=0.1).contrast(fresh, LEVEL) for count in (40, 300))
    assert many.error.mean() < few.error.mean()
    nothing = fitted(values, 40).contrast(LEVEL[None], LEVEL)
    assert nothing.mean[0] == pytest.approx(0, abs=1e-8) and nothing.error[0] == pytest.approx(0, abs=1e-5)


def test_moves_are_contrasts_of_single_changes():
    predictor = fitted(truth(), 60)
    moves = predictor.moves(SPACE, LEVEL)
    for site, level in [(0, 0), (3, 9), (20, 5)]:
        changed = LEVEL.copy()
        changed[site] = level
        found = predictor.contrast(changed[None], LEVEL)
        assert moves.mean[site, level] == pytest.approx(found.mean[0])
        assert moves.error[site, level] == pytest.approx(found.error[0])


def test_draws_of_site_effects_have_mean_zero_and_the_standard_errors_of_moves():
    """Without pairs, which a draw leaves out."""
    features = replace(FEATURES, members=np.zeros_like(FEATURES.members))
    levels = sampled(60)
    predictor = Predictor.fit(features, levels, truth()(levels), np.arange(60) // 20, None)
    rng = np.random.default_rng(0)
    draws = np.array([predictor.deviation(rng) for _ in range(1000)])
    error = predictor.moves(SPACE, LEVEL).error
    assert np.abs(draws.mean(axis=0)).max() < 0.2 * error.max()
    np.testing.assert_allclose(draws.std(axis=0), error, rtol=0.12, atol=1e-6)


def test_without_layer_errors_costs_grow_with_the_sparsity():
    tables = Features.of(replace(PROBLEM, errors=None)).tables
    assert (np.diff(tables[0], axis=1) > 0).all()
    assert not tables[:, np.arange(len(SPACE)), LEVEL].any()


def test_one_allocation_alone_predicts_no_difference():
    predictor = Predictor.fit(FEATURES, LEVEL[None], np.array([0.3]), np.array([0]), None)
    assert np.isfinite(predictor.contrast(sampled(3), LEVEL).mean).all()
