"""How much memory gradients take: measured on one sequence, not guessed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from sparsearch.evaluation.backward import Scalar, leaves
from sparsearch.model.blockwise import Batch, Blockwise, state_bytes
from sparsearch.model.prunable import PrunableModel

CPU_BYTES = 2**32


@dataclass(frozen=True)
class Footprint:
    """Bytes that the gradients of one sequence take.

    Attributes:
        blocks: what each block keeps from its forward to its last backward: what autograd saves, and the inputs
            of the sites.
        tail: the same for what lies behind the blocks, for one scalar.
        state: the largest output of a block.
        gradient: the weight gradient of the largest site.
    """

    blocks: tuple[int, ...]
    tail: int
    state: int
    gradient: int

    @property
    def whole(self) -> int:
        """Peak of `backward_whole`."""
        return sum(self.blocks) + self.tail + self.gradient

    def by_block(self, scalars: int) -> int:
        """Peak of `backward_by_block`: every state, all scalars' gradients on both sides of a block, and the block."""
        return (len(self.blocks) + 2 * scalars) * self.state + max(*self.blocks, self.tail) + self.gradient


def measure(runner: Blockwise, batch: Batch, scalar: Scalar, watched: Sequence[nn.Module]) -> Footprint:
    """The footprint of a batch that holds one sequence.

    One forward with gradients on, block by block, so that it needs the memory of one block alone.

    Args:
        scalar: what would be differentiated.
        watched: the modules whose inputs hooks keep until their backward.
    """
    known = {*map(_address, (*runner.model.module.parameters(), *runner.model.module.buffers(), *batch.values()))}
    blocks, states, state = [], [0], None
    for block in range(len(runner.model.blocks)):
        with _counted(known, watched) as held:
            state = leaves(runner.run(batch, start=block, state=state, stop=block + 1).states[block])
        blocks.append(sum(held.values()))
        states.append(state_bytes(state))
    with _counted(known, watched) as held:
        hidden = runner.run(batch, start=len(blocks), state=state).hidden
        assert hidden is not None
        scalar(hidden)
    weights = [module.get_parameter("weight") for module in watched]
    gradient = max(weight.numel() * max(4, weight.itemsize) for weight in weights)
    return Footprint(tuple(blocks), sum(held.values()), max(states), gradient)


def memory_bound(model: PrunableModel) -> int:
    """Bytes that activations may take: 4 GiB on a CPU, on a CUDA device half of what the model's weights leave.

    The other half is for what is not activations: moves, teacher logits, the allocator's own losses. It goes by the
    memory that there is rather than by what is free at the moment, on which the last bits of the numbers would hang.
    """
    if model.device.type != "cuda":
        return CPU_BYTES
    weights = sum(p.nbytes for p in model.module.parameters() if p.device == model.device)
    return max(0, torch.cuda.get_device_properties(model.device).total_memory - weights) // 2


@contextmanager
def _counted(known: set[int], watched: Iterable[nn.Module]) -> Iterator[dict[int, int]]:
    """Yields address -> bytes of the storages that a forward inside the context leaves alive, each once."""
    held: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if _address(tensor) not in known:
            held[_address(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    def keep_input(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        keep(args[0])

    with ExitStack() as hooks:
        hooks.enter_context(saved_tensors_hooks(keep, lambda tensor: tensor))
        for module in watched:
            hooks.callback(module.register_forward_pre_hook(keep_input).remove)
        yield held


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
