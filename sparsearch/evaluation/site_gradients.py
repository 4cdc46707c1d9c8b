"""Per-sequence gradients of the sites' weights, one site at a time, from hooks on the modules that use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Receive = Callable[[int, Tensor], None]
"""Called with a site's index and its weight gradients `[sequences, out * in]`; a module at a time, to be summed."""


class NotPerSequence(Exception):
    """A site's input has no batch dimension of its own (routed experts): one sequence at a time then."""


@contextmanager
def site_gradients(
    watched: Sequence[tuple[int, nn.Module]], sequences: int, dtype: torch.dtype, receive: Receive
) -> Iterator[None]:
    """Inside the context every backward hands the gradients of the sites to `receive`.

    They exist only during that call. From a forward to its backward the input of every site is kept. No parameter
    needs a gradient of its own: the graph starts at the inputs of the first sites.

    Args:
        watched: site index and module, for every module that uses a site's weight.
        sequences: in a batch. Forwards raise `NotPerSequence` where a module mixes several.
        dtype: of the gradients.
    """
    handles = []
    for index, module in watched:
        handles.append(module.register_forward_pre_hook(start_graph))
        handles.append(module.register_forward_hook(_watch(index, sequences, dtype, receive)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def start_graph(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    """A forward pre-hook: starts a graph at a module's input, where none has come there yet."""
    if not torch.is_grad_enabled() or args[0].requires_grad:
        return None
    return (args[0].detach().requires_grad_(), *args[1:])


def _watch(index: int, sequences: int, dtype: torch.dtype, receive: Receive) -> Any:
    def forward(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        inputs = args[0].detach()
        if sequences > 1 and (inputs.dim() < 3 or inputs.shape[0] != sequences):
            raise NotPerSequence
        if output.requires_grad:
            output.register_hook(lambda grad: backward(inputs, grad))

    @torch.no_grad()
    def backward(inputs: Tensor, grad: Tensor) -> None:
        x = inputs.reshape(sequences, -1, inputs.shape[-1]).to(dtype)
        delta = grad.reshape(sequences, -1, grad.shape[-1]).to(dtype)
        receive(index, torch.bmm(delta.transpose(1, 2), x).flatten(1))

    return forward
