"""Which part of a forward pass candidates share: the trie over blocks, as plain integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sparsearch.space.allocation import Allocation


def prefix_order(allocations: Sequence[Allocation]) -> list[int]:
    """Indices of `allocations` in lexicographic order: a depth-first walk of the trie over blocks.

    Sites are in model order, so neighbours in this order share the longest prefix of blocks.
    """
    return sorted(range(len(allocations)), key=lambda index: allocations[index].levels)


def divergences(allocations: Sequence[Allocation], order: Sequence[int], blocks: NDArray[np.int64]) -> list[int]:
    """Per candidate in `order` the first block in which it differs from the one before; 0 for the first.

    Args:
        blocks: block index of every site `[sites]`, ascending.

    Returns:
        One block index a candidate; one past the last site's block for a candidate equal to the one before.
    """
    table = np.stack([allocations[index].array for index in order])
    different = table[1:] != table[:-1]
    first = np.where(different.any(axis=1), blocks[different.argmax(axis=1)], blocks[-1] + 1)
    return [0, *map(int, first)]


def wanted_depths(starts: Sequence[int], position: int) -> set[int]:
    """Depths whose incoming state the candidate at `position` should leave behind.

    The state in front of block d serves candidate j if no candidate from here to j changes a block before d.

    Args:
        starts: per candidate the first block in which it differs from the one before (`divergences`).
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
