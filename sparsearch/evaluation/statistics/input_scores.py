"""Statistics of the scores |W| * ||X|| of a block: outliers (OWL) and median (DLP)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sparsearch.evaluation.statistics.base import Measurement, per_site, sites_by_block
from sparsearch.evaluation.statistics.inputs import input_moments
from sparsearch.space.space import FloatArray


def outlier_ratio(measurement: Measurement) -> FloatArray:
    """`[sites]`, the share of a block's scores above `multiple` times the block's mean score."""
    multiple = measurement.parameters["multiple"]
    return _of_blocks(measurement, lambda scores: share_above_mean(scores, multiple))


def median_score(measurement: Measurement) -> FloatArray:
    """`[sites]`, the median of a block's scores (of an even number the lower middle one)."""
    return _of_blocks(measurement, lambda scores: float(torch.cat(scores).median()))


def share_above_mean(scores: Sequence[Tensor], multiple: float) -> float:
    """Share of all `scores` that lie above `multiple` times the mean of all."""
    count = sum(part.numel() for part in scores)
    least = multiple * sum(float(part.double().sum()) for part in scores) / count
    return sum(int((part > least).sum()) for part in scores) / count


def _of_blocks(measurement: Measurement, formula: Callable[[list[Tensor]], float]) -> FloatArray:
    """`formula` of each block's scores `|W_ij| * sqrt(mean x_j^2)`, a flat tensor a site.

    The papers take the norm instead of the root mean square, which is the same but for a factor wherever all
    rows reach all sites; experts are not weighted by their traffic here.
    """
    moments = input_moments(measurement)
    found = {}
    for block, sites in sites_by_block(measurement.space).items():
        weights = ((measurement.weight(site), moments[site].root_mean_square) for site in sites)
        found[block] = formula([(weight.abs() * scale.to(weight)).flatten() for weight, scale in weights])
    return per_site(measurement.space, found)
