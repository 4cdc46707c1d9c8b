"""The same sparsity everywhere."""

from __future__ import annotations

from typing import ClassVar

from sparsearch.search.allocators import Allocator
from sparsearch.space import repair
from sparsearch.space.allocation import Allocation


class Uniform(Allocator):
    """The same sparsity everywhere, as near as the levels allow: what pruning without a search does."""

    name: ClassVar[str] = "uniform"

    def allocate(self) -> Allocation:
        """The uniform allocation."""
        return repair.uniform(self.problem.space, self.problem.limits)
