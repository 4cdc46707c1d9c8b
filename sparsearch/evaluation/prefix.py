"""Which part of a forward pass candidates share: the trie over its segments, as plain integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparsearch.space.allocation import Allocation


def prefix_order(allocations: Sequence[Allocation], segments: NDArray[np.int64]) -> list[int]:
    """Indices of `allocations` in a depth-first walk of the trie: neighbours share the longest prefix of segments.

    Args:
        segments: per site the first segment that it changes `[sites]`, in any order.
    """
    by_segment = np.argsort(segments, kind="stable")
    keys = [tuple(allocation.array[by_segment]) for allocation in allocations]
    return sorted(range(len(keys)), key=keys.__getitem__)


def divergences(
    allocations: Sequence[Allocation], order: Sequence[int], segments: NDArray[np.int64], last: int
) -> list[int]:
    """Per candidate in `order` the depth at which it leaves the path of the one before; 0 for the first.

    Args:
        segments: per site the first segment that it changes `[sites]`.
        last: the depth behind all segments, for a candidate equal to the one before.
    """
    table = np.stack([allocations[index].array for index in order])
    first = np.where(table[1:] != table[:-1], segments, last).min(axis=1)
    return [0, *map(int, first)]


def wanted_depths(starts: Sequence[int], position: int) -> set[int]:
    """Depths at which later candidates enter a forward that the candidate at `position` should leave outputs for.

    Depth d of its forward serves candidate j if no candidate from here to j changes a segment before d.

    Args:
        starts: per candidate the depth at which it leaves the path of the one before (`divergences`).
    """
    wanted: set[int] = set()
    least: int | None = None
    for depth in starts[position + 1 :]:
        if least is None or depth <= least:
            least = depth
            wanted.add(depth)
        if least == 0:
            break
    return wanted - {0}
