"""Error accumulation over all levels: later blocks are calibrated on a mean of what a site's variants give.

Where one allocation is shown to later blocks (`BuildPlan.propagate`), these know what one level of each site did.
A supernet holds many levels, and which one will be taken is not known yet; a mean over them tells a little of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sparsearch.space.allocation import Allocation
from sparsearch.space.space import SearchSpace
from sparsearch.space.window import REACH, Window

Weighting = Literal["uniform", "expectation"]


@dataclass(frozen=True)
class Mixture:
    """The mean of some variants of each site, with which later blocks are calibrated.

    With levels e of sparsity `S_e` and outputs `X_e`, a site's later blocks see

        expectation:  sum_e (1 - S_e) X_e / sum_e (1 - S_e)
        uniform:      the same with equal weights

    Li et al., "Týr-the-Pruner" (2025), Eq. 5: variants that keep more are trusted more. A linear site's outputs
    are linear in its weight, so the mean of the outputs is the output of the mean weight, and one forward does.

    Attributes:
        window: the levels that take part. At least one of each site leaves a weight.
    """

    weighting: Weighting
    window: Window

    @classmethod
    def around(cls, space: SearchSpace, weighting: Weighting, centre: Allocation | None) -> Mixture:
        """Of nine levels of each site around its own in `centre`, where the grid has them; without one of all."""
        window = Window.whole(space) if centre is None else Window.around(space, centre, step=1, reach=REACH)
        return cls(weighting, window)

    def describe(self) -> dict[str, Any]:
        """As JSON-able data, for fingerprints and manifests."""
        return {"weighting": self.weighting, "levels": [list(levels) for levels in self.window.levels]}


Shown = Allocation | Mixture
"""What later blocks see of the ones before: one variant of each site, or a mean of several."""


def describe(shown: Shown | None) -> Any:
    """As JSON-able data, for fingerprints and manifests; None is the dense model."""
    return list(shown.levels) if isinstance(shown, Allocation) else None if shown is None else shown.describe()


def shares(shown: Shown, space: SearchSpace, site: int) -> dict[int, float]:
    """How much each level index of `site` counts in what later blocks see; the sum is 1."""
    if isinstance(shown, Allocation):
        return {shown.levels[site]: 1.0}
    levels = shown.window.levels[site]
    kept = 1.0 - space.sparsities[site, list(levels)] if shown.weighting == "expectation" else np.ones(len(levels))
    return dict(zip(levels, (kept / kept.sum()).tolist(), strict=True))


def mean_weight(parts: Iterable[tuple[float, Tensor]]) -> Tensor:
    """The sum of (share, weight `[out, in]`), taken one by one and added up in float32, or wider where they are."""
    total: Tensor | None = None
    for share, weight in parts:
        part = share * weight.to(torch.promote_types(weight.dtype, torch.float32))
        total = part if total is None else total.add_(part)
    assert total is not None
    return total
