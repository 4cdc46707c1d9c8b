"""How much a block changes its input: block influence, LIM and angular distance, from one forward."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sparsearch.evaluation.statistics.base import Measurement, per_site
from sparsearch.space.space import FloatArray


def block_influence(measurement: Measurement) -> FloatArray:
    """`[sites]`, `1 - cos(x, y)` of a block's input and output, the mean over tokens; in [0, 2]."""
    return _mean_over_sequences(measurement, lambda x, y: (1 - cosine(x, y)).mean(dim=1))


def block_change(measurement: Measurement) -> FloatArray:
    """`[sites]`, `1 - cos(X, Y)` of a block's input and output taken as one vector a sequence; in [0, 2]."""
    return _mean_over_sequences(measurement, lambda x, y: 1 - cosine(x.flatten(1), y.flatten(1)))


def angular_distance(measurement: Measurement) -> FloatArray:
    """`[sites]`, `arccos(cos(x, y)) / pi` of a block's input and output, the mean over tokens; in [0, 1]."""
    return _mean_over_sequences(measurement, lambda x, y: (cosine(x, y).acos() / math.pi).mean(dim=1))


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosine along the last dimension, float64, in [-1, 1]; 1 where a vector is 0: nothing is changed there."""
    x, y = x.double(), y.double()
    norms = x.norm(dim=-1) * y.norm(dim=-1)
    return torch.where(norms > 0, (x * y).sum(dim=-1) / norms.clamp(min=1e-300), 1.0).clamp(-1.0, 1.0)


def _mean_over_sequences(measurement: Measurement, distance: Any) -> FloatArray:
    """`distance(x, y)`, `[batch]` of a block's states `[batch, tokens, width]`, averaged over all sequences."""
    sums = [0.0] * len(measurement.evaluator.model.blocks)

    def visit(block: int, x: Tensor, y: Tensor) -> None:
        sums[block] += float(distance(x, y).sum())

    with _watched(measurement, visit):
        for _, batch in measurement.batches():
            measurement.evaluator.runner.run(batch)
    means = {block: total / len(measurement.sequences) for block, total in enumerate(sums)}
    return per_site(measurement.space, means)


@contextmanager
def _watched(measurement: Measurement, visit: Any) -> Iterator[None]:
    """Calls `visit(block, input, output)` whenever a block runs."""

    def hook(block: int) -> Any:
        def seen(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            state = args[0] if args else kwargs["hidden_states"]
            visit(block, state, output if isinstance(output, Tensor) else output[0])

        return seen

    blocks = measurement.evaluator.model.blocks
    handles = [block.register_forward_hook(hook(index), with_kwargs=True) for index, block in enumerate(blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
