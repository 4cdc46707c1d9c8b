"""Slow, obvious float64 references and inputs that the tests of the pruners share."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsearch.pruning import NM, Pattern, Pruned, Statistics


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated_inputs(tokens: int, width: int, seed: int = 0) -> Tensor:
    """Gaussian tokens `[tokens, width]` with strong correlations and unequal scales."""
    scales = torch.logspace(0, -1.5, width)
    rotation, _ = torch.linalg.qr(normal(width, width, seed=seed + 1))
    return normal(tokens, width, seed=seed) @ (scales.unsqueeze(1) * rotation) * (0.5 + torch.arange(width) % 3)


def statistics_of(x: Tensor) -> Statistics:
    return Statistics.empty(x.shape[1], gram=True).accumulate(x)


def new_weights(weight: Tensor, pruned: Pruned) -> Tensor:
    """The weights of all variants, `[L, out, in]`."""
    return torch.where(pruned.masks, weight, 0) if pruned.weights is None else pruned.weights


def squared_error(weight: Tensor, variants: Tensor, x: Tensor) -> Tensor:
    """||(W - V) X||^2 of each variant, relative to ||W X||^2, `[L]`."""
    dense = weight.double() @ x.double().T
    return ((weight.double() - variants.double()) @ x.double().T).square().sum((1, 2)) / dense.square().sum()


def damped(gram: Tensor, damping: float) -> Tensor:
    gram = gram.double()
    return gram + damping * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)


def brain_surgeon(
    weight: Tensor, gram: Tensor, pattern: Pattern, block_size: int, damping: float
) -> tuple[Tensor, Tensor]:
    """SparseGPT as its paper tells it: before each column the inverse of the remaining Hessian, explicitly.

    All inputs live. Returns masks (True kept) and weights, float64, `[out, in]`.
    """
    weight = weight.double().clone()
    out, width = weight.shape
    inverses = [torch.linalg.inv(damped(gram, damping)[j:, j:]) for j in range(width)]
    removed = torch.zeros(out, width, dtype=torch.bool)
    span = pattern.group if isinstance(pattern, NM) else block_size
    for j in range(width):
        if j % span == 0:
            stop = min(j + span, width)
            pivots = torch.stack([inverses[k][0, 0] for k in range(j, stop)])
            scores = weight[:, j:stop] ** 2 / pivots
            if isinstance(pattern, NM):
                for row in range(out):
                    removed[row, j + scores[row].argsort()[: pattern.group - pattern.keep]] = True
            else:
                count = int(pattern.removed * stop / width + 0.5) - int(pattern.removed * j / width + 0.5)
                for place in scores.flatten().argsort()[:count].tolist():
                    removed[place // (stop - j), j + place % (stop - j)] = True
        rows = removed[:, j]
        losses = weight[rows, j] / inverses[j][0, 0]
        weight[rows, j:] -= losses.unsqueeze(1) * inverses[j][0]
    weight[removed] = 0
    return ~removed, weight
