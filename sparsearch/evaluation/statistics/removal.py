"""From scores of single weights to what each level of a site removes of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsearch.space import Level


def removal_costs(scores: Tensor, levels: Sequence[Level]) -> list[float]:
    """For each level the sum of the `scores` `[out, in]` that it removes: the lowest, for N:M of each group.

    With a budget of weights the allocation with the least sum of these costs is, but for the steps between
    levels, the one that a global threshold on the scores gives. Sums in float64. Cost: one sort.
    """
    summed = torch.nn.functional.pad(scores.flatten().sort().values.double().cumsum(0), (1, 0))
    costs = []
    for level in levels:
        removed = level.removed(tuple(scores.shape))
        if level.group:
            lowest = scores.reshape(-1, level.group).sort(dim=1).values[:, : removed * level.group // scores.numel()]
            costs.append(float(lowest.double().sum()))
        else:
            costs.append(float(summed[removed]))
    return costs
