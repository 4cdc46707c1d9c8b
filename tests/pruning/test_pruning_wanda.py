from __future__ import annotations

import torch
from pruning_references import correlated_inputs, normal, statistics_of

from sparsearch.pruning import NM, Statistics, Unstructured, make_pruner
from sparsearch.pruning.wanda import wanda_scores


def naive_scores(weight, x):
    rows = [[abs(w.item()) * (x[:, j].double() ** 2).mean().sqrt().item() for j, w in enumerate(row)] for row in weight]
    return torch.tensor(rows, dtype=torch.float64)


def masks(weight, x, patterns, **options):
    statistics = Statistics.empty(x.shape[1], gram=False).accumulate(x)
    return make_pruner("wanda", options).prune(weight, statistics, patterns, torch.Generator()).masks


def test_scores_are_the_formula():
    weight, x = normal(5, 9), correlated_inputs(31, 9)
    scores = wanda_scores(weight, statistics_of(x))
    torch.testing.assert_close(scores.double(), naive_scores(weight, x), rtol=1e-5, atol=0)


def test_each_row_loses_its_lowest_scores():
    weight, x = normal(7, 12), correlated_inputs(31, 12)
    mask = masks(weight, x, [Unstructured(7 * 5)])[0]
    for scores, kept in zip(naive_scores(weight, x), mask, strict=True):
        assert set(torch.where(~kept)[0].tolist()) == set(scores.argsort()[:5].tolist())


def test_the_site_loses_its_lowest_scores():
    weight, x = normal(7, 12), correlated_inputs(31, 12)
    mask = masks(weight, x, [Unstructured(35)], group="site")[0]
    assert set(torch.where(~mask.flatten())[0].tolist()) == set(
        naive_scores(weight, x).flatten().argsort()[:35].tolist()
    )


def test_each_group_loses_its_lowest_scores():
    weight, x = normal(7, 12), correlated_inputs(31, 12)
    mask = masks(weight, x, [NM(1, 3)])[0].view(7, 4, 3)
    best = naive_scores(weight, x).view(7, 4, 3).argmax(-1)
    assert torch.equal(mask.int().argmax(-1), best)


def test_dead_inputs_go_first():
    x = correlated_inputs(31, 12)
    x[:, [2, 9]] = 0
    mask = masks(normal(7, 12), x, [Unstructured(7 * 2)])[0]
    assert not mask[:, [2, 9]].any()
