"""All variants of one site: pruned, encoded, and their errors measured."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sparsearch.errors import ResourceError
from sparsearch.pruning import NM, Pattern, Pruned, Pruner, Statistics, Unstructured
from sparsearch.space.level import Level
from sparsearch.supernet.encodings import encode_level_map, encode_variants, storage_view


@torch.no_grad()
def prune_site(
    pruner: Pruner,
    weight: Tensor,
    statistics: Statistics | None,
    levels: tuple[Level, ...],
    dtype: torch.dtype,
    seed: int,
) -> tuple[dict[str, Tensor], tuple[float | None, ...]]:
    """All variants of one site, encoded, and their relative output errors, the dense level's first.

    Args:
        weight: `[out, in]`, dense.
        levels: without the dense one.
        dtype: of the stored variants.

    Raises:
        ResourceError: an updated weight is too large for `dtype`.
    """
    torch.set_num_threads(1)
    dense = weight.float()
    patterns = [_pattern(level, tuple(dense.shape)) for level in levels]
    generator = torch.Generator(device=dense.device).manual_seed(seed)
    pruned = pruner.prune(dense, statistics, patterns, generator)
    if pruned.weights is None and pruner.nested and len({level.group for level in levels}) == 1:
        encoded = {"map": encode_level_map(pruned.masks).cpu()}
    else:
        encoded = encode_variants(_stored(part, dtype, pruner.name) for part in _variants(pruned, dense))
    return encoded, (0.0, *output_errors(dense, _variants(pruned, dense), statistics))


def output_errors(dense: Tensor, variants: Iterator[Tensor], statistics: Statistics | None) -> list[float | None]:
    """`tr(D H D^T) / tr(W H W^T)` per variant, `D = variant - W`, H the second moment of the input; None without H.

    Costs out * in^2 multiply-adds a variant.
    """
    if statistics is None or statistics.gram is None:
        return [None for _ in variants]
    gram = statistics.gram
    scale = float(((dense @ gram) * dense).sum())
    changes = (variant - dense for variant in variants)
    return [float(((change @ gram) * change).sum()) / scale if scale > 0 else 0.0 for change in changes]


def _variants(pruned: Pruned, dense: Tensor) -> Iterator[Tensor]:
    """The pruned weights `[out, in]`, one level at a time."""
    if pruned.weights is None:
        return (torch.where(mask, dense, 0.0) for mask in pruned.masks)
    return iter(pruned.weights)


def _stored(weight: Tensor, dtype: torch.dtype, pruner: str) -> Tensor:
    stored = storage_view(weight, dtype)
    if not stored.isfinite().all():
        raise ResourceError(
            f"{pruner}: updated weights overflow {dtype}; raise the damping or use a wider checkpoint dtype"
        )
    return stored


def _pattern(level: Level, shape: tuple[int, ...]) -> Pattern:
    if level.group:
        return NM(keep=round((1 - level.sparsity) * level.group), group=level.group)
    return Unstructured(level.removed(shape))
