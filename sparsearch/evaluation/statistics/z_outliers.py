"""How many of a block's weights are much larger than the average one."""

from __future__ import annotations

from sparsearch.evaluation.statistics.base import Measurement, per_site, sites_by_block
from sparsearch.space.space import FloatArray


def z_outliers(measurement: Measurement) -> FloatArray:
    """`[sites]`, the share of a block's weights with `(w - mean) / std > threshold`, mean and std of the block.

    Dumitru et al., "Layer-Wise Quantization" (2024), where the threshold is 1.
    """
    space = measurement.space
    shares = {block: _share(measurement, sites) for block, sites in sites_by_block(space).items()}
    return per_site(space, shares)


def _share(measurement: Measurement, sites: list[int]) -> float:
    count = sum(measurement.space.sites[site].size for site in sites)
    mean = sum(float(measurement.weight(site).double().sum()) for site in sites) / count
    variance = sum(float((measurement.weight(site).double() - mean).square().sum()) for site in sites) / count
    least = mean + measurement.parameters["threshold"] * variance**0.5
    return sum(int((measurement.weight(site).double() > least).sum()) for site in sites) / count
