"""What the levels of a search space cost in seconds, by a table of measured times."""

from __future__ import annotations

import math

import numpy as np

from sparsearch.errors import ConfigError
from sparsearch.hardware.cells import best_seconds
from sparsearch.hardware.table import Table
from sparsearch.model.site import Site
from sparsearch.space.level import Level
from sparsearch.space.space import FloatArray, SearchSpace, pad_rows


def site_seconds(space: SearchSpace, table: Table, tokens: int) -> FloatArray:
    """Seconds of one product with every site at every level, by the fastest backend that was measured.

    Linear in density, never across shapes or token counts; level 0 is the fastest at density 1. A level that is
    sparser than all cells costs what dense does.

    Args:
        space: linear sites.
        table: of the machine to run on.
        tokens: that are multiplied at once.

    Returns:
        `[sites, max levels]` float64; `inf` behind a site's last level.

    Raises:
        ConfigError: a site's shape, or `tokens` with it, was not measured; what was is listed.
    """
    for site in space.sites:
        _check_measured(site, table, tokens)
    by_shape = {shape: [cell for cell in table.cells if cell.shape == shape] for shape in table.shapes}

    def seconds(site: Site, level: Level) -> float:
        shape, density = _shape(site), 1 - level.removed(site.shape) / site.size
        return best_seconds(by_shape[shape], shape, tokens, density, dtype=table.dtype, label=level.label)[0]

    rows = [[seconds(site, level) for level in levels] for site, levels in zip(space.sites, space.levels, strict=True)]
    return pad_rows(rows, np.inf)


def _check_measured(site: Site, table: Table, tokens: int) -> None:
    shape = _shape(site)
    measured = table.tokens_of(shape)
    if not measured:
        shapes = ", ".join(f"{out} x {width}" for out, width in table.shapes) or "none"
        raise ConfigError(
            f"hardware: the shape {shape[0]} x {shape[1]} of site {site.name} was not measured; measured: {shapes}; "
            "run sparsearch measure with this model"
        )
    if tokens not in measured:
        raise ConfigError(
            f"tokens: {tokens} were not measured for the shape {shape[0]} x {shape[1]} of site {site.name}; "
            f"allowed: {', '.join(map(str, measured))}, or run sparsearch measure with --tokens {tokens}"
        )


def _shape(site: Site) -> tuple[int, int]:
    """`(out, in)`, with whatever lies before `in` as rows."""
    return math.prod(site.shape[:-1]), site.shape[-1]
