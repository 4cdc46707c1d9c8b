"""What holds for every pruner."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_references import correlated_inputs, new_weights, normal, statistics_of

from sparsearch.pruning import NM, PRUNER_NAMES, Statistics, Unstructured, make_pruner

every_pruner = pytest.mark.parametrize("name", PRUNER_NAMES)


def run(name, weight, statistics, patterns, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return make_pruner(name, options).prune(weight, statistics, patterns, generator)


@st.composite
def problems(draw):
    """A weight, statistics and patterns: ties, dead inputs, few tokens and odd widths included."""
    out, group = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    width = group * draw(st.integers(1, 7))
    weight = normal(out, width, seed=draw(st.integers(0, 99)))
    if draw(st.booleans()):
        weight = weight.round()
    weight = weight.to(draw(st.sampled_from([torch.float32, torch.bfloat16])))
    x = correlated_inputs(draw(st.integers(0, 40)), width)
    x[:, : draw(st.integers(0, width))] = 0
    removed = draw(st.lists(st.integers(0, out * width), min_size=1, max_size=4))
    patterns = [Unstructured(count) for count in removed]
    patterns += [NM(draw(st.integers(1, group)), group) for _ in range(draw(st.integers(0, 2)))]
    return weight, statistics_of(x), patterns


@every_pruner
@settings(deadline=None, max_examples=25)
@given(problem=problems(), block_size=st.sampled_from([1, 3, 8, 128]))
def test_counts_are_exact_and_removed_weights_are_positive_zero(name, problem, block_size):
    weight, statistics, patterns = problem
    options = {"block_size": block_size} if "sparsegpt" in name else {}
    pruned = run(name, weight, statistics, patterns, **options)
    assert pruned.masks.dtype == torch.bool
    assert pruned.masks.shape == (len(patterns), *weight.shape)
    for pattern, mask in zip(patterns, pruned.masks, strict=True):
        if isinstance(pattern, NM):
            assert (mask.view(len(weight), -1, pattern.group).sum(-1) == pattern.keep).all()
        else:
            assert (~mask).sum() == pattern.removed
    if pruned.weights is not None:
        assert pruned.weights.shape == pruned.masks.shape
        assert pruned.weights.dtype == weight.dtype
        assert pruned.weights.isfinite().all()
        zeros = pruned.weights[~pruned.masks]
        assert not zeros.any()
        assert not zeros.signbit().any()


@every_pruner
@settings(deadline=None, max_examples=15)
@given(problem=problems())
def test_unstructured_masks_of_nested_pruners_are_nested(name, problem):
    weight, statistics, patterns = problem
    if not make_pruner(name, {}).nested:
        return
    unstructured = sorted((p for p in patterns if isinstance(p, Unstructured)), key=lambda p: p.removed)
    masks = run(name, weight, statistics, unstructured).masks
    assert (masks[1:] <= masks[:-1]).all()


@every_pruner
@settings(deadline=None, max_examples=10)
@given(problem=problems())
def test_the_same_seed_gives_the_same_variants_and_changes_no_argument(name, problem):
    weight, statistics, patterns = problem
    copies = weight.clone(), statistics.gram.clone(), statistics.square_sum.clone()
    first, second = run(name, weight, statistics, patterns), run(name, weight, statistics, patterns)
    assert torch.equal(first.masks, second.masks)
    assert torch.equal(new_weights(weight, first), new_weights(weight, second))
    assert torch.equal(weight, copies[0])
    assert torch.equal(statistics.gram, copies[1])
    assert torch.equal(statistics.square_sum, copies[2])


@every_pruner
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_removing_nothing_changes_nothing_and_removing_all_leaves_zeros(name, dtype):
    weight = (normal(6, 20).double() / 3).to(dtype)
    x = correlated_inputs(50, 20)
    x[:, 3] = 0
    pruned = run(name, weight, statistics_of(x), [Unstructured(0), Unstructured(120), NM(4, 4)])
    assert pruned.masks[[0, 2]].all()
    assert not pruned.masks[1].any()
    variants = new_weights(weight, pruned)
    assert torch.equal(variants[0], weight)
    assert torch.equal(variants[2], weight)
    assert not variants[1].any()


@every_pruner
def test_an_input_without_tokens_is_pruned_by_magnitude(name):
    weight = normal(6, 20)
    patterns = [Unstructured(60), NM(2, 4)]
    options = {"group": "site"} if "wanda" in name else {}
    statistics = [Statistics.empty(20, gram=True), statistics_of(torch.zeros(5, 20))]
    for nothing in statistics:
        pruned = run(name, weight, nothing, patterns, **options)
        if "random" not in name:
            assert torch.equal(pruned.masks, run("magnitude", weight, None, patterns).masks)
        assert torch.equal(new_weights(weight, pruned), torch.where(pruned.masks, weight, 0))


@every_pruner
def test_weights_may_be_transposed_views_with_gradients(name):
    weight, statistics = normal(6, 20), statistics_of(correlated_inputs(50, 20))
    patterns = [Unstructured(60), NM(2, 4)]
    view = weight.T.contiguous().requires_grad_().T
    expected, pruned = run(name, weight, statistics, patterns), run(name, view, statistics, patterns)
    assert torch.equal(pruned.masks, expected.masks)
    assert pruned.masks.is_contiguous()
    if pruned.weights is not None:
        assert pruned.weights.is_contiguous()
        assert not pruned.weights.requires_grad
        torch.testing.assert_close(pruned.weights, expected.weights)
