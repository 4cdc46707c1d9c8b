from __future__ import annotations

import torch
from pruning_references import normal

from sparsearch.pruning import NM, Unstructured, make_pruner


def masks(seed, patterns):
    generator = torch.Generator().manual_seed(seed)
    return make_pruner("random", {}).prune(normal(40, 50), None, patterns, generator).masks


def test_other_seeds_give_other_masks():
    assert not torch.equal(masks(0, [Unstructured(1000)]), masks(1, [Unstructured(1000)]))


def test_every_row_and_column_gets_its_fair_share():
    mask = torch.stack([masks(seed, [Unstructured(1000)])[0] for seed in range(40)]).float()
    assert (mask.mean((0, 2)) - 0.5).abs().max() < 0.06
    assert (mask.mean((0, 1)) - 0.5).abs().max() < 0.06


def test_nm_patterns_do_not_prefer_a_place_in_the_group():
    kept = masks(0, [NM(1, 2)])[0].view(-1, 2).float().mean(0)
    assert (kept - 0.5).abs().max() < 0.06
