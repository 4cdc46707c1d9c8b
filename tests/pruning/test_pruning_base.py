from __future__ import annotations

import pytest
import torch
from pruning_references import correlated_inputs, normal, statistics_of

from sparsearch.pruning import NM, PRUNER_NAMES, Statistics, Unstructured, make_pruner


def prune(name, weight, statistics, patterns):
    return make_pruner(name, {}).prune(weight, statistics, patterns, torch.Generator())


@pytest.mark.parametrize("gram", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_statistics_are_the_sums_over_all_tokens(gram, dtype):
    batches = [normal(2, 3, 5, seed=i).to(dtype) for i in range(3)] + [torch.empty(0, 5, dtype=dtype)]
    statistics = Statistics.empty(5, gram)
    for x in batches:
        statistics = statistics.accumulate(x)
    tokens = torch.cat([x.reshape(-1, 5) for x in batches]).double()
    assert statistics.tokens == 18
    assert statistics.square_sum.dtype == torch.float32
    torch.testing.assert_close(statistics.square_sum.double(), (tokens**2).sum(0), rtol=1e-5, atol=0)
    assert (statistics.gram is not None) == gram
    if gram:
        torch.testing.assert_close(statistics.gram.double(), tokens.T @ tokens, rtol=1e-5, atol=1e-5)


def test_statistics_can_be_summed_in_float64_and_keep_no_graph():
    x = normal(7, 4).requires_grad_()
    statistics = Statistics.empty(4, gram=True, dtype=torch.float64).accumulate(x)
    assert statistics.gram.dtype == torch.float64
    assert not statistics.gram.requires_grad
    torch.testing.assert_close(statistics.gram, x.detach().double().T @ x.detach().double())


def test_statistics_of_no_tokens_are_zero():
    statistics = Statistics.empty(3, gram=True)
    assert statistics.tokens == 0
    assert not statistics.square_sum.any()
    assert not statistics.gram.any()


@pytest.mark.parametrize(("keep", "group"), [(0, 4), (5, 4), (1, 0), (-1, 2)])
def test_impossible_nm_patterns_are_refused(keep, group):
    with pytest.raises(ValueError, match="1 <= N <= M"):
        NM(keep, group)


def test_a_negative_number_of_removed_weights_is_refused():
    with pytest.raises(ValueError, match="-3"):
        Unstructured(-3)


@pytest.mark.parametrize("name", PRUNER_NAMES)
def test_weights_and_patterns_that_do_not_fit_are_refused(name):
    weight, statistics = normal(3, 6), statistics_of(correlated_inputs(20, 6))
    broken = weight.clone()
    broken[1, 2] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        prune(name, broken, statistics, [Unstructured(3)])
    with pytest.raises(ValueError, match=r"\[out, in\]"):
        prune(name, weight[None], statistics, [Unstructured(3)])
    with pytest.raises(ValueError, match="divisible by 4"):
        prune(name, weight, statistics, [NM(2, 4)])
    with pytest.raises(ValueError, match="cannot remove 21"):
        prune(name, weight, statistics, [Unstructured(21)])


@pytest.mark.parametrize("name", [name for name in PRUNER_NAMES if name not in ("random", "magnitude")])
def test_statistics_that_do_not_fit_are_refused(name):
    weight, patterns = normal(3, 6), [Unstructured(3)]
    with pytest.raises(ValueError, match="needs the statistics"):
        prune(name, weight, None, patterns)
    with pytest.raises(ValueError, match="6 inputs"):
        prune(name, weight, statistics_of(correlated_inputs(20, 5)), patterns)
    with pytest.raises(ValueError, match="NaN or infinity"):
        prune(name, weight, statistics_of(torch.full((2, 6), torch.inf)), patterns)
    if name != "wanda":
        with pytest.raises(ValueError, match="needs the gram"):
            prune(name, weight, Statistics.empty(6, gram=False), patterns)
