"""An allocation: one level index per site."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Allocation:
    """One level index per site of a search space, in the order of its sites. Immutable and hashable."""

    levels: tuple[int, ...]

    @classmethod
    def of(cls, levels: Iterable[int]) -> Allocation:
        """From any integers, numpy's included."""
        return cls(tuple(int(level) for level in levels))

    @classmethod
    def from_bytes(cls, data: bytes) -> Allocation:
        """The inverse of `to_bytes`."""
        return cls.of(np.frombuffer(data, dtype="<u2"))

    def to_bytes(self) -> bytes:
        """Two bytes a site, little-endian: the key under which the journal knows the allocation."""
        return np.asarray(self.levels, dtype="<u2").tobytes()

    @property
    def array(self) -> NDArray[np.int64]:
        """Level indices as a fresh int64 array `[sites]`."""
        return np.asarray(self.levels, dtype=np.int64)

    def replace(self, changes: Mapping[int, int]) -> Allocation:
        """The same with `changes` (site index to level index) made."""
        return Allocation(tuple(changes.get(site, level) for site, level in enumerate(self.levels)))

    def __len__(self) -> int:
        return len(self.levels)
