"""Statistics of the dense model by name: what allocators allot by. One file a family that shares its pass.

Shapes and costs stand in `sparsearch.space.statistics.STATISTICS`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch

from sparsearch.errors import ResourceError
from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.evaluation.statistics.base import Formula, Measurement
from sparsearch.evaluation.statistics.block_change import angular_distance, block_change, block_influence
from sparsearch.evaluation.statistics.fluctuation import fluctuation
from sparsearch.evaluation.statistics.gradients import relevance, taylor
from sparsearch.evaluation.statistics.input_scores import median_score, outlier_ratio
from sparsearch.evaluation.statistics.magnitude import lamp, magnitude
from sparsearch.evaluation.statistics.pq_index import pq_retained
from sparsearch.evaluation.statistics.tail_exponent import tail_exponent
from sparsearch.evaluation.statistics.z_outliers import z_outliers
from sparsearch.evaluation.statistics.zeroth_order import zeroth_order
from sparsearch.space.space import FloatArray

FORMULAS: dict[str, Formula] = {
    "magnitude": magnitude,
    "lamp": lamp,
    "tail_exponent": tail_exponent,
    "z_outliers": z_outliers,
    "pq_retained": pq_retained,
    "outlier_ratio": outlier_ratio,
    "median_score": median_score,
    "fluctuation": fluctuation,
    "block_influence": block_influence,
    "block_change": block_change,
    "angular_distance": angular_distance,
    "zeroth_order": zeroth_order,
    "taylor": taylor,
    "relevance": relevance,
}


@torch.no_grad()
def measure(
    evaluator: Evaluator, statistic: str, sequences: tuple[int, ...], parameters: Mapping[str, float], seed: int = 0
) -> FloatArray:
    """A statistic of the dense model, which is put in place for it; the evaluator's spending is added to.

    Raises:
        ResourceError: it is NaN or infinite.
    """
    begun = time.perf_counter()
    evaluator.switcher.restore()
    found = FORMULAS[statistic](Measurement(evaluator, sequences, parameters, seed))
    evaluator.spent.forward_seconds += time.perf_counter() - begun
    if not np.isfinite(found).all():
        site = evaluator.switcher.supernet.space.sites[int(np.argwhere(~np.isfinite(found))[0, 0])]
        raise ResourceError(f"statistic {statistic} is NaN or Inf at {site.name}; try model.dtype: float32")
    return found


__all__ = ["FORMULAS", "Measurement", "measure"]
