from __future__ import annotations

import pytest
import torch
from pruning_references import correlated_inputs, statistics_of

from sparsearch.pruning import Statistics
from sparsearch.pruning.hessian import hessian, inverse_factor

CPU = torch.device("cpu")


def test_the_factor_is_the_upper_cholesky_factor_of_the_inverse():
    matrix, _ = hessian(statistics_of(correlated_inputs(90, 30)), CPU)
    factor = inverse_factor(matrix, 0.01)
    inverse = torch.linalg.inv(matrix + 0.01 * torch.eye(30, dtype=torch.float64))
    torch.testing.assert_close(factor, torch.linalg.cholesky(inverse, upper=True), rtol=1e-8, atol=1e-10)


def test_damping_grows_tenfold_until_the_factorisation_works():
    eigenvalues = torch.linspace(-0.05, 2.05, 12, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(correlated_inputs(12, 12).double())
    matrix = rotation @ torch.diag(eigenvalues) @ rotation.T
    factor = inverse_factor(matrix, 0.001)
    damped = matrix + 0.1 * torch.eye(12, dtype=torch.float64)
    torch.testing.assert_close(factor.T @ factor, torch.linalg.inv(damped), rtol=1e-8, atol=1e-8)


def test_the_hessian_knows_neither_scale_nor_number_of_tokens_and_marks_dead_inputs():
    x = correlated_inputs(40, 6)
    x[:, [1, 4]] = 0
    matrix, dead = hessian(statistics_of(x), CPU)
    assert dead.tolist() == [False, True, False, False, True, False]
    assert matrix.diagonal()[~dead].mean() == pytest.approx(1)
    assert torch.equal(matrix[dead], torch.eye(6, dtype=torch.float64)[dead])
    again, _ = hessian(statistics_of(torch.cat([4 * x, 4 * x])), CPU)
    torch.testing.assert_close(again, matrix, rtol=1e-5, atol=1e-6)


def test_without_a_live_input_it_is_the_identity():
    matrix, dead = hessian(Statistics.empty(4, gram=True), CPU)
    assert torch.equal(matrix, torch.eye(4, dtype=torch.float64))
    assert not dead.any()


def test_a_gram_with_a_negative_diagonal_is_refused():
    statistics = Statistics(torch.ones(2), 1, torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    with pytest.raises(ValueError, match="negative diagonal"):
        hessian(statistics, CPU)
