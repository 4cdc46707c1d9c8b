"""What one backward at the dense model says: first-order Taylor scores and relevance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparsearch.evaluation.site_gradients import start_graph
from sparsearch.evaluation.statistics.base import Measurement
from sparsearch.evaluation.statistics.removal import removal_costs
from sparsearch.model.sites import sharing_modules
from sparsearch.space.space import FloatArray, pad_rows

Visit = Callable[[int, Tensor, Tensor, Tensor], None]
"""Called with a site, its input `[rows, in]`, its output `[rows, out]` and the loss's gradient by that output."""


def taylor(measurement: Measurement) -> FloatArray:
    """`[sites, max levels]`, the sum of `|g * w|` over the weights that a level removes, those with the least.

    g is the gradient of the mean loss. One forward and one backward of each sequence; the gradients of all
    sites are held on the CPU in float32.
    """
    gradients: dict[int, Tensor] = {}

    def visit(site: int, inputs: Tensor, _outputs: Tensor, grad: Tensor) -> None:
        part = (grad.float().T @ inputs.float()).cpu()
        gradients[site] = gradients[site] + part if site in gradients else part

    _backwards(measurement, visit)
    rows = []
    for site, levels in enumerate(measurement.space.levels):
        weight = measurement.weight(site)
        gradient = gradients.get(site)
        scores = torch.zeros_like(weight) if gradient is None else weight * gradient.to(weight)
        rows.append(removal_costs(scores.abs() / len(measurement.sequences), levels))
    return pad_rows(rows, 0.0)


def relevance(measurement: Measurement) -> FloatArray:
    """`[sites]`, the mean over sequences of the sum of `|y * dL/dy|` over a site's outputs y.

    Relevance by the basic rule of layer-wise relevance propagation, which between piecewise linear layers is
    activation times gradient. One forward and one backward of each sequence.
    """
    totals = np.zeros(len(measurement.space))

    def visit(site: int, _inputs: Tensor, outputs: Tensor, grad: Tensor) -> None:
        totals[site] += float((outputs.double() * grad.double()).abs().sum())

    _backwards(measurement, visit)
    return totals / len(measurement.sequences)


def _backwards(measurement: Measurement, visit: Visit) -> None:
    """One forward and backward of every batch; the loss is summed over sequences."""
    evaluator = measurement.evaluator
    with torch.enable_grad(), _watched(measurement, visit):
        for rows, batch in measurement.batches(backwards=1):
            hidden = evaluator.runner.run(batch).hidden
            assert hidden is not None
            measurement.losses(hidden, batch, rows).sum().backward()


@contextmanager
def _watched(measurement: Measurement, visit: Visit) -> Iterator[None]:
    """Calls `visit` in the backward of every module that uses a site's weight."""
    module = measurement.evaluator.model.module
    handles = []
    for index, site in enumerate(measurement.space.sites):
        for part in sharing_modules(module, site):
            handles.append(part.register_forward_pre_hook(start_graph))
            handles.append(part.register_forward_hook(_hook(index, visit)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(site: int, visit: Visit) -> Any:
    def seen(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        inputs, outputs = args[0].detach().flatten(0, -2), output.detach().flatten(0, -2)
        if output.requires_grad:
            output.register_hook(lambda grad: visit(site, inputs, outputs, grad.detach().flatten(0, -2)))

    return seen
