"""What levels remove in magnitude: globally comparable as it is, or adapted to the layer (LAMP)."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsearch.evaluation.statistics.base import Measurement
from sparsearch.evaluation.statistics.removal import removal_costs
from sparsearch.space.space import FloatArray, pad_rows


def magnitude(measurement: Measurement) -> FloatArray:
    """`[sites, max levels]`, the sum of w^2 over the weights that a level removes, the smallest ones."""
    levels = measurement.space.levels
    rows = [removal_costs(measurement.weight(site).square(), row) for site, row in enumerate(levels)]
    return pad_rows(rows, 0.0)


def lamp(measurement: Measurement) -> FloatArray:
    """`[sites, max levels]`, the sum of LAMP scores over the weights that a level removes."""
    levels = measurement.space.levels
    rows = [removal_costs(lamp_scores(measurement.weight(site)), row) for site, row in enumerate(levels)]
    return pad_rows(rows, 0.0)


def lamp_scores(weight: Tensor) -> Tensor:
    """`w_u^2 / sum of w_v^2 over the weights of the site that are not smaller`, float64 `[out, in]`.

    Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning" (ICLR 2021), equation 4. Equal weights
    are ordered by index. The largest weight's score is 1; the scores of a site that is all zeros are 0.
    """
    ordered, order = weight.flatten().double().square().sort(stable=True)
    kept = ordered.flip(0).cumsum(0).flip(0)
    scores = torch.empty_like(ordered)
    scores[order] = torch.where(kept > 0, ordered / kept, 0.0)
    return scores.view_as(weight)
