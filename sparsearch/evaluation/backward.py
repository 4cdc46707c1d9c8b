"""Backward passes of several scalars through one model: with all its activations held, or one block's at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sparsearch.model.blockwise import Batch, Blockwise, State

Scalar = Callable[[Tensor], Tensor]
"""Last hidden states `[batch, tokens, width]` -> what is differentiated, `[batch]`."""

Begin = Callable[[int], None]
"""Called with a scalar's number before each piece of its backward pass: gradients that hooks see are that one's."""

Gradients = list[Tensor | None]
"""By the floating-point tensors of a state, in order; None where a tensor has no influence."""


def backward_whole(runner: Blockwise, batch: Batch, scalars: Sequence[Scalar], begin: Begin) -> None:
    """One forward, then one backward a scalar. Holds the activations of the whole model.

    Gradients are left to tensor hooks; the graph starts where something requires a gradient.
    """
    hidden = runner.run(batch).hidden
    assert hidden is not None
    for number, scalar in enumerate(scalars):
        begin(number)
        _differentiate(scalar(hidden), again=number < len(scalars) - 1)


def backward_by_block(runner: Blockwise, batch: Batch, scalars: Sequence[Scalar], begin: Begin) -> None:
    """The same gradients with the activations of one block at a time, for one more forward through the blocks.

    A first forward keeps the state in front of every block. Then, from the part behind the blocks to the first
    block, each is run again alone and all scalars are pulled back through it, one after the other. Held besides:
    the states, and the gradients of all scalars by two of them. `torch.utils.checkpoint` would not do: it frees what
    autograd saves, not what hooks on a layer's output keep of its input.
    """
    last = len(runner.model.blocks)
    with torch.no_grad():
        states = runner.run(batch, stop=last, capture=range(last)).states
    gradients = _through_tail(runner, batch, states.pop(last - 1), scalars, begin)
    for block in reversed(range(last)):
        before = states.pop(block - 1) if block else None
        gradients = _through_block(runner, batch, block, before, gradients, begin)


def leaves(state: State) -> State:
    """`state` cut off from its graph; its floating-point tensors start a new one."""
    if isinstance(state, Tensor):
        return state.detach().requires_grad_(state.is_floating_point())
    return tuple(map(leaves, state)) if isinstance(state, tuple) else state


def floating(state: State) -> list[Tensor]:
    """The tensors in `state` that can carry a gradient, in order."""
    if isinstance(state, Tensor):
        return [state] if state.is_floating_point() else []
    return [tensor for part in state for tensor in floating(part)] if isinstance(state, tuple) else []


def _through_tail(
    runner: Blockwise, batch: Batch, state: State, scalars: Sequence[Scalar], begin: Begin
) -> list[Gradients]:
    """Each scalar's gradients by the last block's output."""
    inputs = leaves(state)
    hidden = runner.run(batch, start=len(runner.model.blocks), state=inputs).hidden
    assert hidden is not None
    found = []
    for number, scalar in enumerate(scalars):
        begin(number)
        _differentiate(scalar(hidden), again=True)
        found.append(_collect(inputs))
    return found


def _through_block(
    runner: Blockwise, batch: Batch, block: int, state: State, gradients: list[Gradients], begin: Begin
) -> list[Gradients]:
    """Each scalar's gradients by the input of `block`, given those by its output.

    Its graph dies on return, before that of the next block is made. Block 0 runs with all that lies before it.
    """
    inputs = leaves(state)
    output = floating(runner.run(batch, start=block, state=inputs, stop=block + 1).states[block])
    found = []
    for number, wanted in enumerate(gradients):
        begin(number)
        pairs = [(o, g) for o, g in zip(output, wanted, strict=True) if g is not None and o.requires_grad]
        if pairs:
            torch.autograd.backward([o for o, _ in pairs], [g for _, g in pairs], retain_graph=True)
        found.append(_collect(inputs))
    return found


def _differentiate(scalar: Tensor, *, again: bool) -> None:
    """Runs the backward of a scalar that the caller does not keep, so that what it alone needs is freed."""
    if scalar.requires_grad:
        scalar.sum().backward(retain_graph=again)


def _collect(inputs: State) -> Gradients:
    """Takes the gradients off the leaves of a state."""
    tensors = floating(inputs)
    found = [tensor.grad for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None
    return found
