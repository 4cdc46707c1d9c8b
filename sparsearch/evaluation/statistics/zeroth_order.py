"""How much the loss moves with a block's weights, from forwards alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from sparsearch.evaluation.statistics.base import Measurement, per_site, sites_by_block
from sparsearch.model.blockwise import Batch, State
from sparsearch.seeds import spawn_integer
from sparsearch.space.space import FloatArray


def zeroth_order(measurement: Measurement) -> FloatArray:
    """`[sites]`, `mean_s |L_s(W + eps z) - L_s(W - eps z)| / (2 eps)`, z Gaussian on all sites of one block.

    Parameter `eps`. Each draw z belongs to its site alone and is the same for every sequence. Both forwards
    start in front of the block, from the states of one dense forward: about blocks + 2 forwards in all.
    """
    groups = sites_by_block(measurement.space)
    sums = dict.fromkeys(groups, 0.0)
    depth = len(measurement.evaluator.model.blocks)
    for rows, batch in measurement.batches():
        states = measurement.evaluator.runner.run(batch, capture=range(depth)).states
        for block, sites in groups.items():
            sums[block] += _slopes(measurement, rows, batch, block, sites, states.get(block - 1))
    return per_site(measurement.space, {block: total / len(measurement.sequences) for block, total in sums.items()})


def _slopes(
    measurement: Measurement, rows: list[int], batch: Batch, block: int, sites: Sequence[int], state: State
) -> float:
    """Sum over the batch of `|L(+) - L(-)| / (2 eps)`."""
    evaluator, eps = measurement.evaluator, measurement.parameters["eps"]
    losses: list[Tensor] = []
    for step in (eps, -eps):
        with _moved(measurement, sites, step):
            hidden = evaluator.runner.run(batch, start=block, state=state).hidden
            assert hidden is not None
            losses.append(measurement.losses(hidden, batch, rows))
        tokens = len(rows) * evaluator.panel.length
        evaluator.spent.forward_tokens += tokens * float(evaluator.shares[block:].sum())
        evaluator.spent.reused_tokens += tokens * float(evaluator.shares[:block].sum())
    return float((losses[0] - losses[1]).abs().sum()) / (2 * eps)


@contextmanager
def _moved(measurement: Measurement, sites: Sequence[int], step: float) -> Iterator[None]:
    """Moves the weights of `sites` by `step` times their draw, and puts the very same ones back."""
    views = [measurement.evaluator.switcher.weight(site) for site in sites]
    kept = [view.clone() for view in views]
    try:
        for site, view in zip(sites, views, strict=True):
            generator = torch.Generator().manual_seed(spawn_integer(measurement.seed, "direction", site))
            view.add_(torch.randn(view.shape, generator=generator).to(view), alpha=step)
        yield
    finally:
        for view, weight in zip(views, kept, strict=True):
            view.copy_(weight)
