from __future__ import annotations

import pytest
import torch
from pruning_references import (
    brain_surgeon,
    correlated_inputs,
    new_weights,
    normal,
    squared_error,
    statistics_of,
)

from sparsearch.pruning import NM, Unstructured, make_pruner
from sparsearch.pruning import sparsegpt as module


def run(weight, x, patterns, name="sparsegpt", **options):
    return make_pruner(name, options).prune(weight, statistics_of(x), patterns, torch.Generator())


@pytest.mark.parametrize(
    "pattern", [Unstructured(9 * 8), Unstructured(9 * 37), NM(2, 4), NM(1, 4), NM(5, 8), NM(9, 24)]
)
@pytest.mark.parametrize("block_size", [1, 5, 16, 24, 128])
def test_it_is_the_optimal_brain_surgeon(pattern, block_size):
    weight, x = normal(9, 48), correlated_inputs(200, 48)
    statistics = statistics_of(x)
    pruned = run(weight, x, [pattern], block_size=block_size)
    mask, weights = brain_surgeon(weight, statistics.gram, pattern, block_size, 0.01)
    assert torch.equal(pruned.masks[0], mask)
    torch.testing.assert_close(pruned.weights[0].double(), weights, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("width", [1, 2, 15, 17, 33, 70])
def test_any_width_works(width):
    weight, x = normal(5, width), correlated_inputs(200, width)
    pattern = Unstructured(5 * (width // 2))
    pruned = run(weight, x, [pattern], block_size=32)
    mask, weights = brain_surgeon(weight, statistics_of(x).gram, pattern, 32, 0.01)
    assert torch.equal(pruned.masks[0], mask)
    torch.testing.assert_close(pruned.weights[0].double(), weights, rtol=2e-4, atol=2e-5)


MIXED = [
    NM(2, 4),
    Unstructured(0),
    Unstructured(240),
    NM(1, 2),
    Unstructured(480),
    NM(3, 4),
    Unstructured(720),
]


@pytest.mark.parametrize("block_size", [8, 20, 128])
def test_all_levels_in_one_pass_are_the_levels_one_by_one(block_size):
    weight, x = normal(12, 60), correlated_inputs(300, 60)
    together = run(weight, x, MIXED, block_size=block_size)
    for i, pattern in enumerate(MIXED):
        alone = run(weight, x, [pattern], block_size=block_size)
        assert torch.equal(together.masks[i], alone.masks[0])
        torch.testing.assert_close(together.weights[i], alone.weights[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bound", [1, 1440])
def test_the_memory_bound_changes_nothing(bound, monkeypatch):
    weight, x = normal(12, 60), correlated_inputs(300, 60)
    free = run(weight, x, MIXED, block_size=20)
    monkeypatch.setattr(module, "SLICE_ELEMENTS", bound)
    sliced = run(weight, x, MIXED, block_size=20)
    assert torch.equal(free.masks, sliced.masks)
    torch.testing.assert_close(free.weights, sliced.weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pattern", [Unstructured(24 * 32), Unstructured(24 * 48), NM(2, 4)])
def test_it_loses_less_than_magnitude_and_wanda_on_correlated_inputs(pattern):
    weight, x = normal(24, 64), correlated_inputs(400, 64)
    error = {
        name: squared_error(weight, new_weights(weight, run(weight, x, [pattern], name)), x).item()
        for name in ("sparsegpt", "wanda", "magnitude")
    }
    assert error["sparsegpt"] < 0.75 * min(error["wanda"], error["magnitude"])


def test_dead_inputs_go_first_and_disturb_nothing_else():
    weight, x = normal(6, 30), correlated_inputs(200, 30)
    dead = torch.zeros(30, dtype=torch.bool)
    dead[[0, 7, 8, 29]] = True
    x[:, dead] = 0
    pruned = run(weight, x, [Unstructured(6 * 14)])
    alone = run(weight[:, ~dead], x[:, ~dead], [Unstructured(6 * 10)])
    assert not pruned.masks[:, :, dead].any()
    assert torch.equal(pruned.masks[:, :, ~dead], alone.masks)
    torch.testing.assert_close(pruned.weights[:, :, ~dead], alone.weights, rtol=1e-4, atol=1e-5)


def test_kept_weights_of_dead_inputs_stay_as_they_are():
    weight, x = normal(6, 30), correlated_inputs(200, 30)
    x[:, [0, 7, 8, 29]] = 0
    pruned = run(weight, x, [Unstructured(6 * 2)])
    kept = pruned.masks[0][:, [0, 7, 8, 29]]
    assert kept.sum() == 12
    assert torch.equal(pruned.weights[0][:, [0, 7, 8, 29]][kept], weight[:, [0, 7, 8, 29]][kept])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_singular_grams_and_one_token_work_at_any_scale(scale):
    weight = normal(6, 32)
    twins = normal(200, 16).repeat(1, 2) * scale
    patterns = [Unstructured(6 * 16), NM(2, 4)]
    for x in (twins, normal(1, 32) * scale, normal(3, 32) * scale):
        pruned = run(weight, x, patterns)
        assert pruned.weights.isfinite().all()
        wanda = new_weights(weight, run(weight, x, patterns, "wanda"))
        assert (squared_error(weight, pruned.weights, x) < squared_error(weight, wanda, x)).all()


def test_one_of_two_equal_inputs_takes_over_from_the_other():
    weight = torch.tensor([[1.0, 2.0]])
    x = normal(100, 1).repeat(1, 2)
    pruned = run(weight, x, [Unstructured(1)], damping=1e-6)
    torch.testing.assert_close(pruned.weights[0], torch.tensor([[0.0, 3.0]]), rtol=1e-4, atol=1e-6)
