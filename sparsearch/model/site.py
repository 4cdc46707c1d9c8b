"""What may be pruned: the description of one site, free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Site:
    """One thing that gets a level.

    A linear site is one weight; other families may describe several tensors by one site, so nothing outside
    the pruner and the switch may assume more than a size.

    Attributes:
        name: stable and unique, for a linear site its module path (`model.layers.0.mlp.up_proj`).
        module: path of the module that holds the tensors.
        kind: what it is within a block (`self_attn.q_proj`), equal for corresponding sites of all blocks.
        block: index of its block; the number of blocks for a site behind the last one (an LM head).
        shape: of the weight as `[out, in]`, whatever way the module stores it.
    """

    name: str
    module: str
    kind: str
    block: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of weights."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size
