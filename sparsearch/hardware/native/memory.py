"""Where packed weights lie: on large pages, at the beginning of cache lines.

A product with one token reads each weight once from memory. With pages of 4 KiB a core spends much of that time
translating addresses; on the 2 MiB pages that Linux gives out when asked (`madvise`), the same kernel reads about
1.5 times as fast (AMD EPYC, 2 vCPUs: 15 against 23 GB/s).
"""

from __future__ import annotations

import mmap
import threading
from contextlib import suppress

import torch
from torch import Tensor

ALIGNMENT = 64
SLAB = 32 * 2**20
"""Bytes asked for at once: weights smaller than a large page share one."""


class Slabs:
    """Memory that is handed out from the front; a slab is given back when the last tensor in it is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slab = mmap.mmap(-1, ALIGNMENT)
        self._used = ALIGNMENT

    def place(self, tensor: Tensor) -> Tensor:
        """A contiguous copy of `tensor`."""
        size = tensor.numel() * tensor.element_size()
        if size == 0:
            return tensor.clone()
        with self._lock:
            if self._used + size > len(self._slab):
                self._slab, self._used = _large_pages(max(size, SLAB)), 0
            slab, start = self._slab, self._used
            self._used += -(-size // ALIGNMENT) * ALIGNMENT
        flat = torch.frombuffer(slab, dtype=tensor.dtype, count=tensor.numel(), offset=start)
        return flat.view(tensor.shape).copy_(tensor)


def _large_pages(size: int) -> mmap.mmap:
    """Memory of our own; physical only where it is written to."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return mmap.mmap(-1, size)
    # Private: the shared memory that Python maps by default has no large pages.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # A kernel without large pages: slower, not wrong.
    with suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


SLABS = Slabs()
