import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsearch.search.ridge import combined, fitted_scales, leave_one_out


def drawn(seed, count=30, features=8):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, features))
    return rows, rows @ rng.normal(size=features) + 0.3 * rng.normal(size=count)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(0.01, 10))
def test_closed_form_equals_leaving_out_one_after_the_other(seed, prior, noise):
    """Against ridge regression in the weights, fitted once for every target that is left out."""
    rows, targets = drawn(seed)
    means, variances = leave_one_out(combined([rows @ rows.T], np.array([prior, noise])), targets)
    for index in range(len(targets)):
        rest, known = np.delete(rows, index, axis=0), np.delete(targets, index)
        precision = rest.T @ rest / noise + np.eye(rows.shape[1]) / prior
        weights = np.linalg.solve(precision, rest.T @ known / noise)
        variance = noise + rows[index] @ np.linalg.solve(precision, rows[index])
        assert means[index] == pytest.approx(rows[index] @ weights, rel=1e-4, abs=1e-4)
        assert variances[index] == pytest.approx(variance, rel=1e-4)


def log_density(scales, kernels, targets):
    means, variances = leave_one_out(combined(kernels, scales), targets)
    return -0.5 * np.sum((targets - means) ** 2 / variances + np.log(variances))


def test_fitted_scales_are_a_local_maximum_of_the_left_out_density():
    rows, targets = drawn(0, count=60)
    kernels = [rows[:, :4] @ rows[:, :4].T, rows[:, 4:] @ rows[:, 4:].T]
    scales = fitted_scales(kernels, targets, np.ones(3))
    best = log_density(scales, kernels, targets)
    for index in range(3):
        for factor in (0.25, 4.0):
            other = scales.copy()
            other[index] *= factor
            assert log_density(other, kernels, targets) < best + 1e-9
    for factor in (0.9, 1.1):
        assert log_density(factor * scales, kernels, targets) < best


def test_features_that_mean_nothing_get_little_and_noise_is_found():
    rng = np.random.default_rng(1)
    rows, nothing = rng.normal(size=(2, 200, 5))
    targets = rows @ rng.normal(size=5) + 0.5 * rng.normal(size=200)
    scales = fitted_scales([rows @ rows.T, nothing @ nothing.T], targets, np.ones(3))
    assert scales[1] < 0.05 * scales[0]
    assert scales[2] == pytest.approx(0.25, rel=0.3)
