"""SparseGPT (arXiv 2301.00774): columns are pruned left to right, the rest makes up for each loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import NM, Needs, Pattern, Pruned, Statistics, Unstructured, require_prunable
from .hessian import hessian, inverse_factor
from .masks import lowest, lowest_of_each
from .options import require_number, require_positive_integer

# Weights worked on at once: 3 buffers of 4 bytes each. Only memory and speed depend on it.
SLICE_ELEMENTS = 2**22
# Columns below which single columns are updated instead of halves: where GEMM stops to pay.
LEAF_COLUMNS = 16


@dataclass(frozen=True)
class SparseGPT:
    """Optimal-brain-surgeon pruning in column order, all levels in one pass.

    Per block of `block_size` columns the weights of least w^2 / U_jj^2 go (U the upper Cholesky factor of
    the inverse Hessian; w as updated so far), over all rows jointly; N:M patterns choose at the start of
    each group. What a removed weight did is moved to the columns to its right. `damping` is relative to
    the mean diagonal of the Hessian.

    Two details differ from the published code: each block removes its share so that the site's total
    is exact, and a kept weight of a dead input stays as it is (there is no data to say otherwise).

    Costs in^3 multiply-adds once and out * in^2 / 2 for each level.
    """

    block_size: int = 128
    damping: float = 0.01

    name: ClassVar[str] = "sparsegpt"
    statistics: ClassVar[Needs] = "gram"
    updates_weights: ClassVar[bool] = True
    nested: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_positive_integer(self.name, "block_size", self.block_size)
        require_number(self.name, "damping", self.damping, above=0)

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
        matrix, dead = hessian(statistics, weight.device)
        working = torch.promote_types(weight.dtype, torch.float32)
        factor = inverse_factor(matrix, self.damping).T.to(working).contiguous()
        masks = torch.empty(len(patterns), *weight.shape, dtype=torch.bool, device=weight.device)
        weights = torch.empty(masks.shape, dtype=weight.dtype, device=weight.device)
        for chosen in _slices(patterns, weight.numel()):
            levels = [patterns[i] for i in chosen]
            sweep = _sweep(weight, dead, factor, levels, self.block_size)
            for place, i in enumerate(chosen):
                masks[i] = sweep.kept[:, place].T
                weights[i] = sweep.columns[:, place].T
                if dead.any():
                    weights[i] = torch.where(dead, weight, weights[i])
                weights[i].masked_fill_(~masks[i], 0.0)
            del sweep  # or its buffers would stay until the next sweep has filled its own
        return Pruned(masks, weights)


def _slices(patterns: Sequence[Pattern], numel: int) -> list[list[int]]:
    """Indices of the patterns that one sweep takes together: equal mask widths, within the memory bound."""
    families: dict[int, list[int]] = {}
    for i, pattern in enumerate(patterns):
        families.setdefault(pattern.group if isinstance(pattern, NM) else 0, []).append(i)
    size = max(1, SLICE_ELEMENTS // max(1, numel))
    return [family[i : i + size] for family in families.values() for i in range(0, len(family), size)]


def _sweep(weight: Tensor, dead: Tensor, factor: Tensor, patterns: list[Pattern], block_size: int) -> _Sweep:
    """The finished sweep of patterns that choose their masks at the same columns."""
    columns = weight.to(factor.dtype).masked_fill(dead, 0.0).T.unsqueeze(1).repeat(1, len(patterns), 1)
    first = patterns[0]
    sweep = _Sweep(
        columns=columns,
        errors=torch.empty_like(columns),
        kept=torch.empty(columns.shape, dtype=torch.bool, device=weight.device),
        factor=factor,
        patterns=patterns,
        span=first.group if isinstance(first, NM) else block_size,
    )
    sweep.run(0, weight.shape[1])
    return sweep


@dataclass(frozen=True)
class _Sweep:
    """One pass over the columns. Everything is transposed, so that a column of all levels is contiguous.

    Attributes:
        columns: `[in, L, out]`, float32 or better; the weights, updated in place.
        errors: `[in, L, out]`; w / U_jj where a weight is removed, else 0.
        kept: bool `[in, L, out]`.
        factor: U^T, `[in, in]`, lower triangular.
        patterns: the L patterns.
        span: the number of columns whose masks are chosen at once.
    """

    columns: Tensor
    errors: Tensor
    kept: Tensor
    factor: Tensor
    patterns: list[Pattern]
    span: int

    def run(self, start: int, stop: int) -> None:
        """Prune columns [start, stop), which the columns before `start` have already updated.

        Halving turns almost all updates into large matrix products and keeps that promise for every
        part, however the spans lie.
        """
        if start % self.span == 0 and stop == min(start + self.span, len(self.columns)):
            self._choose(start, stop)
        width = stop - start
        if width <= min(LEAF_COLUMNS, self.span):
            self._prune_columns(start, stop)
            return
        middle = start + (width // 2 if width <= self.span else -(-width // self.span) // 2 * self.span)
        self.run(start, middle)
        trailing, errors = self.columns[middle:stop].flatten(1), self.errors[start:middle].flatten(1)
        trailing.addmm_(self.factor[middle:stop, start:middle], errors, alpha=-1)
        self.run(middle, stop)

    def _prune_columns(self, start: int, stop: int) -> None:
        columns, errors = self.columns.flatten(1), self.errors.flatten(1)
        for j in range(start, stop):
            if j > start:
                columns[j].addmv_(errors[start:j].T, self.factor[j, start:j], alpha=-1)
            errors[j].mul_(columns[j])

    def _choose(self, start: int, stop: int) -> None:
        """Choose the masks of the span and leave (removed ? 1 / U_jj : 0) in `errors`."""
        pivots = self.factor.diagonal()[start:stop].view(-1, 1, 1)
        # Before the first column is pruned all levels are alike, so one ranking serves them all.
        levels = slice(0, 1) if start == 0 else slice(None)
        scores = self.columns[start:stop, levels].abs() / pivots
        if isinstance(self.patterns[0], NM):
            removed = self._lowest_in_rows(scores)
        else:
            removed = self._lowest_in_span(scores, start, stop)
        torch.logical_not(removed, out=self.kept[start:stop])
        torch.div(removed, pivots, out=self.errors[start:stop])

    def _lowest_in_rows(self, scores: Tensor) -> Tensor:
        counts = [p.group - p.keep for p in self.patterns if isinstance(p, NM)]
        removed = lowest(scores.permute(1, 2, 0), torch.tensor(counts, device=scores.device).unsqueeze(1))
        return removed.permute(2, 0, 1)

    def _lowest_in_span(self, scores: Tensor, start: int, stop: int) -> Tensor:
        width = len(self.columns)
        shares = [
            _share(p.removed, stop, width) - _share(p.removed, start, width)
            for p in self.patterns
            if isinstance(p, Unstructured)
        ]
        ranked = scores.transpose(0, 1).flatten(1)
        if len(ranked) == len(shares):
            removed = lowest_of_each(ranked, shares)
        else:
            removed = lowest(ranked, torch.tensor(shares, device=scores.device))
        return removed.view(len(shares), stop - start, -1).transpose(0, 1)


def _share(removed: int, columns: int, width: int) -> int:
    """round(removed * columns / width), halves up, so that no span is asked for more than it has."""
    return (2 * removed * columns + width) // (2 * width)
