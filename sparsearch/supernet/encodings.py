"""How the variants of a site are stored: one level map for all levels, or per level a bit mask and its non-zeros.

All functions are exact: decoding gives the encoded weight bit for bit, zeros as +0.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

LEVEL_MAP = "level-map"
BITMASK = "bitmask"
DENSE = "dense"


def encode_level_map(masks: Tensor) -> Tensor:
    """One byte a weight for all levels: the level index at which a weight dies.

    Args:
        masks: bool `[L, ...]`, True where kept, level index l at `masks[l - 1]`, each a subset of the one before.

    Returns:
        uint8 `[...]`: 1 ... L, or L + 1 for a weight that every level keeps.

    Raises:
        ValueError: the masks are not nested, or there are more than 254 levels.
    """
    if masks.shape[0] > 254:
        raise ValueError(f"a level map holds at most 254 levels, not {masks.shape[0]}")
    if (masks[1:] & ~masks[:-1]).any():
        raise ValueError("the masks are not nested, so one level map cannot hold them")
    return (masks.sum(dim=0) + 1).to(torch.uint8)


def decode_level_map(level_map: Tensor, level: int, dense: Tensor) -> Tensor:
    """The variant at `level`: `dense` where the weight is still alive, +0.0 elsewhere."""
    return torch.where(level_map > level, dense, torch.zeros((), dtype=dense.dtype, device=dense.device))


def encode_bitmask(weight: Tensor) -> dict[str, Tensor]:
    """Packed bits (uint8, row-major, first weight in the highest bit) and the non-zero values in the same order."""
    alive = weight != 0
    bits = np.packbits(alive.reshape(-1).cpu().numpy())
    return {"mask": torch.from_numpy(bits), "values": weight[alive].contiguous().cpu()}


def decode_bitmask(mask: Tensor, values: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `encode_bitmask`, on the CPU."""
    size = int(np.prod(shape))
    alive = torch.from_numpy(np.unpackbits(mask.numpy(), count=size).view(np.bool_))
    weight = torch.zeros(size, dtype=values.dtype)
    weight[alive] = values
    return weight.view(*shape)


def encode_variants(weights: Sequence[Tensor]) -> dict[str, Tensor]:
    """Per level l = 1 ... the smaller of `l.mask` + `l.values` and `l.dense`.

    Args:
        weights: one tensor `[out, in]` a level, in storage dtype.
    """
    tensors: dict[str, Tensor] = {}
    for level, weight in enumerate(weights, start=1):
        parts = encode_bitmask(weight)
        if parts["mask"].numel() + parts["values"].nbytes < weight.nbytes:
            tensors |= {f"{level}.mask": parts["mask"], f"{level}.values": parts["values"]}
        else:
            # Adding 0 turns -0.0 into +0.0, as the other encoding does.
            tensors[f"{level}.dense"] = (weight + 0).contiguous().cpu()
    return tensors


def decode_variant(tensors: Mapping[str, Tensor], level: int, dense: Tensor) -> Tensor:
    """The variant at `level` ≥ 1 from a shard's tensors, in the dtype it was stored in.

    Args:
        tensors: what `encode_variants` gave, or `{"map": level map}`.
        dense: the dense weight `[out, in]` in storage dtype, on the CPU.
    """
    if "map" in tensors:
        return decode_level_map(tensors["map"], level, dense)
    if f"{level}.dense" in tensors:
        return tensors[f"{level}.dense"]
    return decode_bitmask(tensors[f"{level}.mask"], tensors[f"{level}.values"], dense.shape)
