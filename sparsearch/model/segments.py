"""The segments of a forward: where, at block boundaries and inside blocks, it can be entered with known outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import wraps
from itertools import chain
from math import inf
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sparsearch.model.blockwise import Batch, Blockwise, State, replaced_forward, versions
from sparsearch.model.site import Site
from sparsearch.model.sites import weight_users


@dataclass(frozen=True, eq=False)
class Segments:
    """What a forward computes one after the other: the parts of each block, or the whole of a block without parts.

    Depth d is the place in front of segment d, the last depth the one behind all blocks. A forward enters at d with
    the output of the block before and with those of the parts of d's own block that lie before d, as in the parallel
    blocks of some families all parts may see the block's input.

    Attributes:
        modules: per segment the module whose output ends it: a part, or for the last of a block the block itself.
        blocks: per depth the index of its block; the number of blocks for the last one `[segments + 1]`.
        sites: per site the first segment that uses its weight `[sites]`; the last depth for one behind the blocks.
    """

    modules: tuple[nn.Module, ...]
    blocks: tuple[int, ...]
    sites: NDArray[np.int64]

    def needed(self, depth: int) -> range:
        """The depths whose outputs (of the segment in front of each) it takes to enter at `depth`."""
        return range(max(1, self._block_start(depth)), depth + 1)

    def known(self, depth: int, outputs: Mapping[int, State]) -> dict[nn.Module, State]:
        """What modules answer that do not run in a forward from `depth`.

        Args:
            outputs: depth to the output of the segment in front of it, at least for those `needed`.
        """
        start = self._block_start(depth)
        before = {module: outputs[start] for module in self.modules[:start]}
        return before | {self.modules[inner - 1]: outputs[inner] for inner in range(start + 1, depth + 1)}

    def _block_start(self, depth: int) -> int:
        return self.blocks.index(self.blocks[depth])


@torch.no_grad()
def find_segments(runner: Blockwise, sites: Sequence[Site], batch: Batch) -> Segments:
    """The segments of a model, observed in one forward (without the head) on `batch`; no family is known by name.

    Parts of a block are its direct children that hold matrices and run once in a forward, with no other child inside
    and without writing to their arguments. Where blocks do not run in order, or tell each other things by writing to
    their arguments, no place is safe to enter at, and there are no segments.
    """
    blocks = runner.model.blocks
    children = [[child for child in block.children() if _has_matrix(child)] for block in blocks]
    users = weight_users(runner.model.module, sites)
    inside = {module for block in blocks for module in block.modules()}
    outside = [user for row in users for user in row if user not in inside]
    calls = _Calls(runner, batch, [*blocks, *chain(*children), *outside])
    if not calls.in_order(blocks):
        return Segments((), (len(blocks),), np.zeros(len(sites), dtype=np.int64))
    modules: list[nn.Module] = []
    depths: list[int] = []
    first_use = {module: 0 for module in outside if calls.begin.get(module, inf) < calls.end[blocks[-1]]}
    for index, block in enumerate(blocks):
        parts = sorted(filter(calls.stands_alone, children[index]), key=calls.begin.__getitem__)
        for child in children[index]:
            depth = len(modules) + sum(calls.end[part] < calls.begin.get(child, -1) for part in parts[:-1])
            for module in child.modules():
                first_use[module] = min(depth, first_use.get(module, depth))
        modules += [*parts[:-1], block]
        depths += [index] * (len(modules) - len(depths))
    found = [min(first_use.get(user, len(modules)) for user in row) for row in users]
    return Segments(tuple(modules), (*depths, len(blocks)), np.array(found, dtype=np.int64))


def _has_matrix(module: nn.Module) -> bool:
    return any(parameter.dim() > 1 for parameter in module.parameters())


class _Calls:
    """When some modules are called in one forward, and which of them write to their arguments.

    Attributes:
        begin: module to the place in time at which its first call begins.
        end: module to that at which its last call ends.
    """

    def __init__(self, runner: Blockwise, batch: Batch, modules: Iterable[nn.Module]) -> None:
        self._events: list[nn.Module] = []
        self._writers: set[nn.Module] = set()
        with ExitStack() as patches:
            for module in dict.fromkeys(modules):
                patches.enter_context(replaced_forward(module, self._noting(module)))
            runner.run(batch)
        self.end = {module: place for place, module in enumerate(self._events)}
        self.begin = {module: place for place, module in reversed([*enumerate(self._events)])}

    def in_order(self, blocks: Sequence[nn.Module]) -> bool:
        """Whether `blocks` run once each, one after the other, and leave their arguments as they are."""
        known = set(blocks)
        once = [block for block in blocks for _ in ("begin", "end")]
        in_turn = len(known) == len(blocks) and [module for module in self._events if module in known] == once
        return in_turn and not known & self._writers

    def stands_alone(self, module: nn.Module) -> bool:
        """Whether `module` runs once, calls no other of the modules, and leaves its arguments as they are."""
        once = self._events.count(module) == 2 and self.end[module] == self.begin[module] + 1
        return once and module not in self._writers

    def _noting(self, module: nn.Module) -> Callable[..., State]:
        original = module.forward

        @wraps(original)
        def forward(*args: Any, **kwargs: Any) -> State:
            before = versions((args, kwargs))
            self._events.append(module)
            output = original(*args, **kwargs)
            self._events.append(module)
            if versions((args, kwargs)) != before:
                self._writers.add(module)
            return output

        return forward
