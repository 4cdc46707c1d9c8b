"""How the variants of a site are stored: one level map for all levels, or per level a bit mask and its non-zeros.

All functions are exact: decoding gives the encoded weight bit for bit, zeros as +0.0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEVEL_MAP = "level-map"
BITMASK = "bitmask"
DENSE = "dense"

PART = 2**18
"""Weights whose positions, 8 bytes each, are listed at once."""
WORDS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


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
    alive = (weight != 0).reshape(-1).cpu().numpy()
    words = _words(weight.contiguous().reshape(-1).cpu())
    values = np.concatenate([words[part][places] for part, places in _places(alive)])
    return {"mask": torch.from_numpy(np.packbits(alive)), "values": torch.from_numpy(values).view(weight.dtype)}


def decode_bitmask(mask: Tensor, values: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `encode_bitmask`, on the CPU."""
    words = _words(values)
    alive = np.unpackbits(mask.numpy(), count=math.prod(shape)).view(np.bool_)
    weight = np.zeros(len(alive), dtype=words.dtype)
    first = 0
    for part, places in _places(alive):
        weight[part][places] = words[first : first + len(places)]
        first += len(places)
    return torch.from_numpy(weight).view(values.dtype).view(*shape)


def _places(alive: NDArray[np.bool_]) -> Iterator[tuple[slice, NDArray[np.intp]]]:
    """A part at a time, where in it the non-zeros are. Up to ten times faster than indexing with `alive` itself."""
    for start in range(0, max(1, len(alive)), PART):
        part = slice(start, start + PART)
        yield part, np.flatnonzero(alive[part])


def _words(values: Tensor) -> NDArray[np.integer]:
    """The values' bits as integers that share their memory: numpy has no bfloat16."""
    return values.view(WORDS[values.itemsize]).numpy()


def encode_variants(weights: Iterable[Tensor]) -> dict[str, Tensor]:
    """Per level l = 1 ... the smaller of `l.mask` + `l.values` and `l.dense`.

    Args:
        weights: one tensor `[out, in]` a level, in storage dtype; taken one by one.
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


def decode_variant(tensors: Mapping[str, Tensor], level: int, dense: Tensor, dtype: torch.dtype) -> Tensor:
    """The variant at `level` ≥ 1 from a shard's tensors, in storage dtype on the CPU.

    Args:
        tensors: what `encode_variants` gave, or `{"map": level map}`.
        dense: the dense weight `[out, in]`, in any dtype and on any device.
        dtype: the storage dtype.
    """
    if "map" in tensors:
        return decode_level_map(tensors["map"], level, storage_view(dense, dtype))
    if f"{level}.dense" in tensors:
        return tensors[f"{level}.dense"]
    return decode_bitmask(tensors[f"{level}.mask"], tensors[f"{level}.values"], dense.shape)


def storage_view(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A weight as it is stored: contiguous, on the CPU, in the checkpoint's dtype."""
    return weight.detach().to(device="cpu", dtype=dtype).contiguous()
