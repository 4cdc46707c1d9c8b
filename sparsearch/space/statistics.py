"""The statistics of the dense model that an allocator may ask for: name, shape and cost. No formula, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sparsearch.space.space import SearchSpace


@dataclass(frozen=True, slots=True)
class Statistic:
    """What an answer looks like and costs.

    Attributes:
        per_level: whether it is `[sites, max levels]` (0 where dense or invalid) instead of `[sites]`.
        forwards: of each sequence, a backward counted as two; 0 where the weights alone are looked at.
        forwards_per_block: further ones for every block.
    """

    per_level: bool = False
    forwards: int = 0
    forwards_per_block: int = 0

    def passes(self, space: SearchSpace) -> int:
        """Forwards of each sequence, a backward counted as two."""
        return self.forwards + self.forwards_per_block * len({site.block for site in space.sites})

    def shape(self, space: SearchSpace) -> tuple[int, ...]:
        """Shape of the answer."""
        return space.valid.shape if self.per_level else (len(space),)


STATISTICS: Mapping[str, Statistic] = {
    "magnitude": Statistic(per_level=True),
    "lamp": Statistic(per_level=True),
    "tail_exponent": Statistic(),
    "z_outliers": Statistic(),
    "pq_retained": Statistic(),
    "outlier_ratio": Statistic(forwards=1),
    "median_score": Statistic(forwards=1),
    "fluctuation": Statistic(per_level=True, forwards=1),
    "block_influence": Statistic(forwards=1),
    "block_change": Statistic(forwards=1),
    "angular_distance": Statistic(forwards=1),
    "zeroth_order": Statistic(forwards=1, forwards_per_block=2),
    "taylor": Statistic(per_level=True, forwards=3),
    "relevance": Statistic(forwards=3),
}
"""By name; the formulas stand in `sparsearch.evaluation.statistics`, one file a family."""
