from __future__ import annotations

import pytest
import torch
from pruning_references import correlated_inputs, damped, normal, squared_error, statistics_of

from sparsearch.pruning import NM, Unstructured, make_pruner
from sparsearch.pruning import refit as module


def run(name, weight, x, patterns, **options):
    generator = torch.Generator().manual_seed(0)
    return make_pruner(name, options).prune(weight, statistics_of(x), patterns, generator)


def least_squares(weight, mask, x, ridge):
    """Row by row, in float64: lstsq over the tokens, the ridge as extra tokens."""
    x = x.double()
    extra = (ridge * x.square().sum(0).mean()).sqrt() * torch.eye(x.shape[1], dtype=torch.float64)
    rows = torch.cat([x, extra])
    solution = torch.zeros_like(weight, dtype=torch.float64)
    for i, (row, kept) in enumerate(zip(weight.double(), mask, strict=True)):
        solution[i, kept] = torch.linalg.lstsq(rows[:, kept], (rows @ row).unsqueeze(1)).solution[:, 0]
    return solution


def quadratic(weight, variant, x, ridge):
    missing = weight.double() - variant.double()
    return ((missing @ damped(x.double().T @ x.double(), ridge)) * missing).sum(1)


@pytest.mark.parametrize("chooser", ["random", "magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize("ridge", [0.01, 0.3])
def test_it_is_least_squares_on_the_mask_of_the_chooser(chooser, ridge):
    weight, x = normal(7, 24), correlated_inputs(80, 24)
    patterns = [Unstructured(7 * 6), Unstructured(7 * 20), NM(2, 4), Unstructured(7 * 23)]
    pruned = run(f"{chooser}+refit", weight, x, patterns, ridge=ridge, tolerance=1e-6)
    assert torch.equal(pruned.masks, run(chooser, weight, x, patterns).masks)
    for mask, variant in zip(pruned.masks, pruned.weights, strict=True):
        expected = least_squares(weight, mask, x, ridge)
        torch.testing.assert_close(variant.double(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("iterations", [1, 2, 5, 100])
@pytest.mark.parametrize("chooser", ["random", "wanda", "sparsegpt"])
def test_no_row_is_worse_than_its_start(chooser, iterations):
    weight, x = normal(16, 40), correlated_inputs(100, 40)
    patterns = [Unstructured(16 * count) for count in (0, 1, 10, 30, 40)]
    start = run(chooser, weight, x, patterns)
    variants = run(f"{chooser}+refit", weight, x, patterns, iterations=iterations).weights
    for i in range(len(patterns)):
        first = start.weights[i] if start.weights is not None else torch.where(start.masks[i], weight, 0)
        before, after = quadratic(weight, first, x, 0.01), quadratic(weight, variants[i], x, 0.01)
        assert (after <= before * (1 + 1e-5)).all()


def test_the_defaults_come_close_to_the_optimum_and_beat_sparsegpt():
    weight, x = normal(8, 64), correlated_inputs(160, 64)
    patterns = [Unstructured(8 * count) for count in (6, 32, 45, 58)]
    pruned = run("wanda+refit", weight, x, patterns)
    for mask, variant in zip(pruned.masks, pruned.weights, strict=True):
        best = quadratic(weight, least_squares(weight, mask, x, 0.01), x, 0.01).sum()
        assert quadratic(weight, variant, x, 0.01).sum() < 1.001 * best
    sparsegpt = squared_error(weight, run("sparsegpt+refit", weight, x, patterns).weights, x)
    assert (sparsegpt < squared_error(weight, run("sparsegpt", weight, x, patterns).weights, x)).all()


def test_rows_and_levels_do_not_depend_on_each_other(monkeypatch):
    """Rows of very different size, each solved to its own end: where a looser tolerance stops, rounding decides."""
    weight = normal(8, 24).double() * 10.0 ** torch.arange(8, dtype=torch.float64).unsqueeze(1)
    x, options = correlated_inputs(80, 24), {"tolerance": 1e-12}
    patterns = [Unstructured(8 * count) for count in (2, 12, 22)]
    together = run("wanda+refit", weight, x, patterns, **options).weights
    for row in range(8):
        per_row = [Unstructured(pattern.removed // 8) for pattern in patterns]
        alone = run("wanda+refit", weight[row : row + 1], x, per_row, **options).weights
        torch.testing.assert_close(alone[:, 0], together[:, row], rtol=1e-8, atol=1e-9)
    monkeypatch.setattr(module, "SLICE_ELEMENTS", 1)
    sliced = run("wanda+refit", weight, x, patterns, **options).weights
    torch.testing.assert_close(sliced, together, rtol=1e-8, atol=1e-9)


def test_singular_grams_and_dead_inputs_work():
    weight, x = normal(6, 24), normal(1, 24)
    x[:, 5] = 0
    pruned = run("magnitude+refit", weight, x, [Unstructured(6 * 12), NM(2, 4)])
    assert pruned.weights.isfinite().all()
    kept = pruned.masks[..., 5]
    assert torch.equal(pruned.weights[..., 5][kept], weight[:, 5].expand(2, 6)[kept])
    masked = torch.where(pruned.masks, weight, 0)
    assert (squared_error(weight, pruned.weights, x) < squared_error(weight, masked, x)).all()


@pytest.mark.parametrize("scale", [1e-18, 1e-20, 1e-22, 1e-30])
def test_weights_too_small_to_square_are_not_made_worse(scale):
    weight, x = normal(16, 40) * scale, correlated_inputs(100, 40)
    pruned = run("wanda+refit", weight, x, [Unstructured(16 * 20)])
    masked = torch.where(pruned.masks, weight, 0)
    assert (squared_error(weight, pruned.weights, x) <= squared_error(weight, masked, x)).all()


def test_a_ridge_next_to_nothing_works_on_a_singular_gram():
    weight, x = normal(32, 40), normal(1, 40)
    pruned = run("wanda+refit", weight, x, [Unstructured(32 * 10)], ridge=1e-6, tolerance=1e-9)
    masked = torch.where(pruned.masks, weight, 0)
    assert (squared_error(weight, pruned.weights, x) < 1e-3 * squared_error(weight, masked, x)).all()
