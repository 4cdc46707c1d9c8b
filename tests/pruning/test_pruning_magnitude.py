from __future__ import annotations

import torch
from pruning_references import normal

from sparsearch.pruning import NM, Unstructured, make_pruner


def masks(weight, patterns, **options):
    return make_pruner("magnitude", options).prune(weight, None, patterns, torch.Generator()).masks


def test_the_site_loses_its_smallest_weights():
    weight = normal(8, 12)
    mask = masks(weight, [Unstructured(48)])[0]
    assert weight[~mask].abs().max() < weight[mask].abs().min()


def test_each_row_loses_its_smallest_weights():
    weight = normal(8, 12)
    mask = masks(weight, [Unstructured(48)], group="row")[0]
    for row, kept in zip(weight.abs(), mask, strict=True):
        assert kept.sum() == 6
        assert row[~kept].max() < row[kept].min()


def test_each_group_keeps_its_largest_weights():
    weight = torch.tensor([[0.1, -3.0, 2.0, 0.5, 1.0, 1.0, -1.0, 1.0]])
    assert masks(weight, [NM(2, 4)])[0].int().tolist() == [[0, 1, 1, 0, 0, 0, 1, 1]]
