"""How much memory gradients take: measured on one sequence, not guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sparsearch.evaluation.backward import Scalar, floating, leaves
from sparsearch.evaluation.live_bytes import LiveBytes
from sparsearch.model.blockwise import Batch, Blockwise, State, state_bytes
from sparsearch.model.prunable import PrunableModel

CPU_BYTES = 2**32


@dataclass(frozen=True)
class Stage:
    """Bytes of one part of a model.

    Attributes:
        held: what its forward leaves alive for its backward, what autograd saves and what hooks keep.
        peak: the most that is alive at once in its forward and backward.
    """

    held: int
    peak: int


@dataclass(frozen=True)
class Footprint:
    """Bytes that the gradients of one sequence take.

    Attributes:
        stages: the blocks, and last what lies behind them with one scalar.
        state: the largest output of a block.
    """

    stages: tuple[Stage, ...]
    state: int

    @property
    def whole(self) -> int:
        """Peak of `backward_whole`: all parts are held while one works."""
        return sum(stage.held for stage in self.stages) + max(stage.peak - stage.held for stage in self.stages)

    def by_block(self, scalars: int) -> int:
        """Peak of `backward_by_block`: every state, all scalars' gradients on both sides of a block, and the block."""
        states = len(self.stages) - 1 + 2 * scalars
        return states * self.state + max(stage.peak for stage in self.stages)


def measure(runner: Blockwise, batch: Batch, scalar: Scalar) -> Footprint:
    """The footprint of a batch that holds one sequence, with the hooks that are on the model now.

    One forward and one backward, part by part: needs the memory of one part alone.

    Args:
        scalar: what would be differentiated.
    """
    blocks = len(runner.model.blocks)
    module = runner.model.module
    weights = [*module.parameters(), *module.buffers(), *batch.values()]
    stages: list[Stage] = []
    largest, state = 0, None
    for block in range(blocks):
        forward = partial(_block, runner, batch, block, state)
        stage, state = _measured(forward, [*weights, *floating(state)])
        stages.append(stage)
        largest = max(largest, state_bytes(state))
    stage, _ = _measured(lambda: scalar(_hidden(runner, batch, state)), [*weights, *floating(state)])
    return Footprint((*stages, stage), largest)


def memory_bound(model: PrunableModel) -> int:
    """Bytes that activations may take: 4 GiB on a CPU, on a CUDA device half of what the model's weights leave.

    The other half is for what does not grow with the batch, moves and teacher logits, and for the allocator's losses.
    It goes by the memory that there is rather than by what is free at the moment, on which the last bits of the
    numbers would hang.
    """
    if model.device.type != "cuda":
        return CPU_BYTES
    weights = sum(p.nbytes for p in model.module.parameters() if p.device == model.device)
    return max(0, torch.cuda.get_device_properties(model.device).total_memory - weights) // 2


def _block(runner: Blockwise, batch: Batch, block: int, state: State) -> State:
    return runner.run(batch, start=block, state=state, stop=block + 1).states[block]


def _hidden(runner: Blockwise, batch: Batch, state: State) -> Tensor:
    hidden = runner.run(batch, start=len(runner.model.blocks), state=state).hidden
    assert hidden is not None
    return hidden


def _measured(forward: Callable[[], State], known: Sequence[Tensor]) -> tuple[Stage, State]:
    """What a forward and one backward through it take, and the forward's output, free of its graph."""
    with LiveBytes(known) as live:
        output = forward()
        held = live.now
        ends = [tensor for tensor in floating(output) if tensor.requires_grad]
        if ends:
            torch.autograd.backward(ends, [torch.ones_like(end) for end in ends], retain_graph=True)
        return Stage(held, live.peak), leaves(output)
