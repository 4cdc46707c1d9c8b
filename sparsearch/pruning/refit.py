"""Refit: the least-squares optimal weights under masks that another pruner chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Needs, Pattern, Pruned, Pruner, Statistics, require_prunable
from .hessian import hessian
from .options import require_number, require_positive_integer

# Weights worked on at once: about 8 buffers of 4 bytes each. Only memory and speed depend on it.
SLICE_ELEMENTS = 2**24


@dataclass(frozen=True)
class Refit:
    """The masks of `chooser` with the weights that minimise ||(W - V) X||^2 + ridge ||W - V||^2.

    `ridge` is relative to the mean diagonal of X X^T. Conjugate gradients over all rows of all levels at
    once; a row is done when its preconditioned residual is `tolerance` of what it was at the start, all are
    after `iterations`. The start is what `chooser` left, and no row ends worse than there.

    Costs iterations * out * in^2 multiply-adds for each level at most.
    """

    chooser: Pruner
    ridge: float = 0.01
    iterations: int = 100
    tolerance: float = 1e-3

    statistics: ClassVar[Needs] = "gram"
    updates_weights: ClassVar[bool] = True

    def __post_init__(self) -> None:
        # Below this float32 cannot tell a singular gram from a regular one.
        require_number("refit", "ridge", self.ridge, above=1e-7)
        require_positive_integer("refit", "iterations", self.iterations)
        require_number("refit", "tolerance", self.tolerance, above=0)

    @property
    def name(self) -> str:
        """The chooser's name with `+refit`."""
        return f"{self.chooser.name}+refit"

    @property
    def nested(self) -> bool:
        """Whether the chooser's masks are nested."""
        return self.chooser.nested

    @torch.no_grad()
    def prune(
        self,
        weight: Tensor,
        statistics: Statistics | None,
        patterns: Sequence[Pattern],
        generator: torch.Generator,
    ) -> Pruned:
        """See `Pruner.prune`; reads `gram`."""
        require_prunable(self, weight, statistics, patterns)
        assert statistics is not None
        pruned = self.chooser.prune(weight, statistics, patterns, generator)
        matrix, _ = hessian(statistics, weight.device)
        matrix.diagonal().add_(self.ridge)
        matrix = matrix.to(torch.promote_types(weight.dtype, torch.float32))
        start = pruned.weights if pruned.weights is not None else weight.expand_as(pruned.masks)
        weights = torch.empty(pruned.masks.shape, dtype=weight.dtype, device=weight.device)
        size = max(1, SLICE_ELEMENTS // max(1, weight.numel()))
        for i in range(0, len(patterns), size):
            levels = slice(i, i + size)
            weights[levels] = refit(
                weight, pruned.masks[levels], start[levels], matrix, self.iterations, self.tolerance
            )
        return Pruned(pruned.masks, weights)


def refit(weight: Tensor, masks: Tensor, start: Tensor, matrix: Tensor, iterations: int, tolerance: float) -> Tensor:
    """The V under `masks` that minimise (W - V) H (W - V)^T, row by row, `[L, out, in]` in the dtype of H.

    Args:
        weight: the dense W `[out, in]`.
        masks: bool `[L, out, in]`, True where V may be non-zero.
        start: `[L, out, in]`, where to start; taken as 0 outside the masks.
        matrix: H `[in, in]`, float32 or better, positive definite.
        iterations: the most steps of conjugate gradients.
        tolerance: a row stops at this part of its first preconditioned residual.
    """
    width = weight.shape[1]
    kept = masks.reshape(-1, width)
    before = torch.where(masks, start.to(matrix.dtype), 0.0)
    missing = (weight.to(matrix.dtype) - before).reshape(-1, width)
    # Jacobi preconditioning as a change of variables: H gets a unit diagonal, the masks stay.
    scale = matrix.diagonal().sqrt()
    pull = missing @ matrix
    step = conjugate_gradients(
        matrix / scale / scale.unsqueeze(1), (pull / scale) * kept, kept, iterations, tolerance
    ).div_(scale)
    gain = (step * (2 * pull - step @ matrix)).sum(dim=1, keepdim=True)
    return (before + torch.where(gain > 0, step, 0.0).view(masks.shape)).masked_fill_(~masks, 0.0)


def conjugate_gradients(matrix: Tensor, residual: Tensor, kept: Tensor, iterations: int, tolerance: float) -> Tensor:
    """Solve (x H)_S = residual_S for each row x of `[R, in]` with its own support S (`kept`, bool).

    `residual` must be 0 outside S. A row leaves the batch once its residual norm is below `tolerance` of its
    first, so that rows do not depend on each other.
    """
    solution = torch.zeros_like(residual)
    rows = torch.arange(len(residual), device=residual.device)
    x, direction, support = solution.clone(), residual.clone(), kept.to(residual.dtype)
    norm = residual.square().sum(dim=1)
    goal = tolerance**2 * norm
    for _ in range(iterations):
        active = norm > goal
        if not active.all():
            solution[rows] = x
            rows, x, residual, direction = rows[active], x[active], residual[active], direction[active]
            support, norm, goal = support[active], norm[active], goal[active]
        if not len(rows):
            break
        product = (direction @ matrix).mul_(support)
        length = (norm / (direction * product).sum(dim=1)).unsqueeze(1)
        x.addcmul_(length, direction)
        residual = residual.addcmul(length, product, value=-1)
        before, norm = norm, residual.square().sum(dim=1)
        direction = torch.addcmul(residual, (norm / before).unsqueeze(1), direction)
    solution[rows] = x
    return solution
