"""What levels remove in FLAP's fluctuation metric."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from sparsearch.evaluation.statistics.base import Measurement
from sparsearch.evaluation.statistics.inputs import input_moments
from sparsearch.space.space import FloatArray, pad_rows


def fluctuation(measurement: Measurement) -> FloatArray:
    """`[sites, max levels]`, summed standardised fluctuation of the input channels that a level removes.

    The metric of channel j is `Var(x_j) * |W_:j|^2`, standardised within its site (An et al., "Fluctuation-based
    Adaptive Structured Pruning", AAAI 2024), here moved by one number for all sites so that the least is 0. A
    level that removes a share s of the weights counts the s lowest channels, the last one in part, each as
    often as it has weights. One forward of each sequence.
    """
    space = measurement.space
    moments = input_moments(measurement)
    variances = [moment.variance for moment in moments]
    scores = [channel_scores(measurement.weight(site), variance) for site, variance in enumerate(variances)]
    least = min(float(row.min()) for row in scores)
    rows = []
    for site, levels, row in zip(space.sites, space.levels, scores, strict=True):
        outputs, inputs = site.shape
        summed = np.concatenate([[0.0], np.cumsum(np.sort(row - least))])
        channels = [level.removed(site.shape) / outputs for level in levels]
        rows.append(list(outputs * np.interp(channels, np.arange(inputs + 1), summed)))
    return pad_rows(rows, 0.0)


def channel_scores(weight: Tensor, variance: Tensor) -> FloatArray:
    """Standardised fluctuation of the input channels of a weight `[out, in]`, float64 `[in]`; 0 where all are equal."""
    metric = (variance.to(weight.device) * weight.double().square().sum(dim=0)).cpu().numpy()
    spread = metric.std()
    return (metric - metric.mean()) / spread if spread > 0 else np.zeros_like(metric)
