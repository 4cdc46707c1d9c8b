"""From scores to masks: exact counts, ties broken by index, all levels from one ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .base import NM, Pattern

Group = Literal["row", "site"]


def masks_by_score(scores: Tensor, patterns: Sequence[Pattern], group: Group) -> Tensor:
    """Masks `[L, out, in]`, True where kept, that remove the lowest `scores` `[out, in]`.

    Unstructured patterns compare within `group`: the whole site or each row; of equal scores the lower
    index goes first, so their masks are nested. Where a count does not divide by the rows, the first rows
    lose one weight more. N:M patterns compare within each group of M inputs.
    """
    masks = torch.empty(len(patterns), *scores.shape, dtype=torch.bool, device=scores.device)
    for size in sorted({pattern.group for pattern in patterns if isinstance(pattern, NM)}):
        chosen = [i for i, p in enumerate(patterns) if isinstance(p, NM) and p.group == size]
        removed = [size - p.keep for p in patterns if isinstance(p, NM) and p.group == size]
        grouped = scores.reshape(1, scores.shape[0], -1, size)
        masks[chosen] = ~lowest(grouped, _column(removed, scores, 3)).view(-1, *scores.shape)
    chosen = [i for i, p in enumerate(patterns) if not isinstance(p, NM)]
    if chosen:
        removed = [p.removed for p in patterns if not isinstance(p, NM)]
        if group == "row":
            per_row = row_counts(removed, scores.shape[0]).to(scores.device)
            masks[chosen] = ~lowest(scores.unsqueeze(0), per_row)
        else:
            masks[chosen] = ~lowest(scores.reshape(1, -1), _column(removed, scores, 1)).view(-1, *scores.shape)
    return masks


def row_counts(removed: Sequence[int], rows: int) -> Tensor:
    """How many weights each row loses: int64 `[len(removed), rows]`, the rest of a division from the first rows.

    No row loses fewer for a larger count, so that masks stay nested.
    """
    counts = torch.tensor(removed)[:, None]
    return counts // rows + (torch.arange(rows) < counts % rows)


def _column(counts: list[int], like: Tensor, dim: int) -> Tensor:
    return torch.tensor(counts, device=like.device).view(-1, *[1] * (dim - 1))


def lowest(scores: Tensor, counts: Tensor) -> Tensor:
    """True at the `counts` lowest of `scores` `[..., n]`, along the last dimension.

    `counts` is an int tensor that broadcasts with the leading dimensions of `scores`: several counts for
    one row cost one sort. Of equal scores the lower index counts as lower, so every count is exact and
    masks of growing counts are nested.
    """
    order = scores.argsort(dim=-1, stable=True)
    places = torch.arange(scores.shape[-1], dtype=torch.int32, device=scores.device)
    ranks = torch.empty_like(order, dtype=torch.int32).scatter_(-1, order, places.expand_as(order))
    return ranks < counts.unsqueeze(-1)


def lowest_of_each(scores: Tensor, counts: Sequence[int]) -> Tensor:
    """`lowest` for one count per row of `scores` `[L, n]`; on CPU selecting is twice as fast as sorting."""
    if scores.device.type != "cpu":
        return lowest(scores, torch.tensor(counts, device=scores.device))
    return torch.stack([_lowest_of_row(row, count) for row, count in zip(scores, counts, strict=True)])


def _lowest_of_row(scores: Tensor, count: int) -> Tensor:
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = scores.kthvalue(count).values
    below, ties = scores < threshold, scores == threshold
    missing = count - int(below.count_nonzero())
    if int(ties.count_nonzero()) != missing:
        ties &= ties.cumsum(dim=0) <= missing
    return below.logical_or_(ties)
