"""Sparsity that rises with depth, in equal steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from sparsearch.search.allocators import Allocator
from sparsearch.search.base import Options
from sparsearch.search.checks import number
from sparsearch.search.wishes import nearest, shifted
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import uniform_sparsity


@dataclass(frozen=True, slots=True)
class ArithmeticOptions(Options):
    """Options of `arithmetic`.

    Attributes:
        steepness: of the largest possible step, which takes the first or the last block to a sparsity of 0 or
            1; negative for a sparsity that falls with depth.
    """

    steepness: float = 0.3

    def __post_init__(self) -> None:
        number("steepness", self.steepness, -1, 1)


class Arithmetic(Allocator):
    """Sparsities of the blocks in arithmetic progression over depth. Needs nothing.

    Huang et al., "Determining Layer-wise Sparsity for Large Language Models Through a Theoretical Perspective"
    (ATP, 2025): `s_i = S - beta (L - 1) / 2 + beta (i - 1)` for block i of L, with `beta (L - 1)` at most
    `min(2 S, 2 (1 - S))`. Deviation: the paper chooses beta by perplexity; here it is an option, as a share of
    the largest one, and its default is ours.
    """

    name: ClassVar[str] = "arithmetic"
    options_type: ClassVar[type[Options]] = ArithmeticOptions
    options: ArithmeticOptions

    def allocate(self) -> Allocation:
        """The levels nearest to the progression."""
        space, limits = self.problem.space, self.problem.limits
        blocks = np.array([site.block for site in space.sites], dtype=np.float64)
        level = uniform_sparsity(space, limits)
        reach = self.options.steepness * min(level, 1 - level)
        depth = 2 * blocks / max(blocks.max(), 1) - 1
        return nearest(space, limits, shifted(space, limits, level + reach * depth))
