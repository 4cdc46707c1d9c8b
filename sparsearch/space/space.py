"""The search space: sites × levels, with what each level costs in every resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sparsearch.errors import ConfigError
from sparsearch.model.site import Site
from sparsearch.space.allocation import Allocation
from sparsearch.space.level import Level

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class SearchSpace:
    """Which levels each site may take and what they cost. Costs add up over sites.

    Attributes:
        sites: in model order.
        levels: per site its levels from dense (index 0) to sparsest; sites may differ in number.
        costs: resource name to `[sites, max levels]`; entries behind a site's last level are `inf`.
        constants: resource name to what the rest of the model costs whatever the allocation.
    """

    sites: tuple[Site, ...]
    levels: tuple[tuple[Level, ...], ...]
    costs: Mapping[str, FloatArray]
    constants: Mapping[str, float]
    counts: IntArray = field(init=False)
    valid: BoolArray = field(init=False)

    def __post_init__(self) -> None:
        if not self.sites:
            raise ConfigError("the search space has no sites; widen space.targets or shorten space.ignore")
        counts = np.array([len(levels) for levels in self.levels], dtype=np.int64)
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "valid", np.arange(counts.max())[None, :] < counts[:, None])

    def __len__(self) -> int:
        return len(self.sites)

    @property
    def resources(self) -> tuple[str, ...]:
        """Names of the resources that a budget may bound."""
        return tuple(self.costs)

    @property
    def sparsities(self) -> FloatArray:
        """Fraction of each site's weights gone, exactly, as `[sites, max levels]`; `nan` where invalid."""
        rows = [
            [level.removed(site.shape) / site.size for level in levels]
            for site, levels in zip(self.sites, self.levels, strict=True)
        ]
        return pad_rows(rows, np.nan)

    @property
    def prunable(self) -> int:
        """Weights in all sites together."""
        return sum(site.size for site in self.sites)

    def dense(self) -> Allocation:
        """Level 0 everywhere."""
        return Allocation((0,) * len(self))

    def sparsest(self) -> Allocation:
        """The last level everywhere."""
        return Allocation.of(self.counts - 1)

    def cost(self, resource: str, allocation: Allocation) -> float:
        """What `allocation` costs in `resource`, the rest of the model included."""
        return float(self.site_cost(resource, allocation.array) + self.constants[resource])

    def site_cost(self, resource: str, levels: IntArray) -> FloatArray:
        """Cost of the sites alone for `levels` `[..., sites]`, summed over sites to `[...]`."""
        return summed(self.costs[resource], levels)

    def least(self, resource: str) -> float:
        """What the model costs in `resource` at the least; a latency may be lower at a denser level."""
        cheapest = np.where(self.valid, self.costs[resource], np.inf).min(axis=1)
        return float(cheapest.sum() + self.constants[resource])

    def sparsity(self, allocation: Allocation) -> float:
        """Fraction of all sites' weights that `allocation` removes."""
        return sum(level.removed(site.shape) for site, level in self.chosen(allocation).items()) / self.prunable

    def chosen(self, allocation: Allocation) -> dict[Site, Level]:
        """The level of every site in `allocation`, in model order."""
        return {
            site: levels[index] for site, levels, index in zip(self.sites, self.levels, allocation.levels, strict=True)
        }

    def check(self, allocation: Allocation) -> None:
        """Raises `ConfigError` when `allocation` is not one of this space."""
        if len(allocation) != len(self):
            raise ConfigError(f"the allocation has {len(allocation)} levels, the search space has {len(self)} sites")
        for site, count, level in zip(self.sites, self.counts, allocation.levels, strict=True):
            if not 0 <= level < count:
                raise ConfigError(f"site {site.name}: level index {level} is outside 0 to {count - 1}")

    def describe(self) -> list[dict[str, object]]:
        """Sites and level labels as JSON-able data, for fingerprints and manifests."""
        return [
            {
                "name": site.name,
                "kind": site.kind,
                "block": site.block,
                "shape": list(site.shape),
                "levels": [level.label for level in levels],
            }
            for site, levels in zip(self.sites, self.levels, strict=True)
        ]


def summed(tables: FloatArray, levels: IntArray) -> FloatArray:
    """Entries of `tables` `[..., sites, max levels]` at `levels` `[..., sites]`, summed over the sites."""
    return np.asarray(tables[..., np.arange(tables.shape[-2]), levels].sum(axis=-1))


def pad_rows(rows: Sequence[Sequence[float]], fill: float) -> FloatArray:
    """Ragged rows as one float64 array, short rows filled up with `fill`."""
    table = np.full((len(rows), max(map(len, rows), default=0)), fill, dtype=np.float64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table


def linear_space(
    sites: Sequence[Site],
    levels: Sequence[Level],
    *,
    itemsize: int,
    other_params: int = 0,
    other_flops: int = 0,
) -> SearchSpace:
    """The search space of linear sites: each site gets the levels that fit its shape.

    Resources, per site with `kept` weights of `size`:

    - `params`: kept;
    - `bytes`: `min(size * itemsize, kept * itemsize + ceil(size / 8))`, dense or bit mask + non-zeros;
    - `flops`: `2 * kept`, multiplications and additions per token.

    Args:
        sites: the sites, in model order.
        levels: the grid, dense first (`level_grid`).
        itemsize: bytes of one stored weight.
        other_params: parameters outside the sites.
        other_flops: floating-point operations per token outside the sites.
    """
    fitting = tuple(tuple(level for level in levels if level.fits(site.shape)) for site in sites)
    kept = [[site.size - level.removed(site.shape) for level in row] for site, row in zip(sites, fitting, strict=True)]
    stored = [
        [min(site.size * itemsize, count * itemsize + -(-site.size // 8)) for count in row]
        for site, row in zip(sites, kept, strict=True)
    ]
    costs = {
        "params": pad_rows(kept, np.inf),
        "bytes": pad_rows(stored, np.inf),
        "flops": pad_rows([[2 * count for count in row] for row in kept], np.inf),
    }
    constants = {"params": other_params, "bytes": other_params * itemsize, "flops": other_flops}
    return SearchSpace(tuple(sites), fitting, costs, constants)
