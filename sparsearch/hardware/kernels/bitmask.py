"""Bit mask and packed non-zeros: loaded as sparse, computed as dense. What its three value types share.

The mask costs 1 bit a weight, so that a one-token product, which waits for memory, reads
`bits of a value * (1 - sparsity) + 1` bits a weight. Values are spread over registers in the order of their mask
(Fan et al. 2025, arXiv:2502.12444 on the same idea with AMX; Xia et al. 2024, arXiv:2309.10285 on GPUs).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sparsearch.hardware import native
from sparsearch.hardware.kernels.base import Packed, StoredBackend, layout_fault

GROUP_ROWS = 2
BLOCK = 64
PADDING = 64
"""Bytes behind the last value, because registers are loaded whole."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class Bitmask(StoredBackend):
    """A native kernel on bit masks.

    Attributes:
        kind: of `enum Kind` in kernels.h.
        values: what they are stored in.
        extras: dtype and dimensions of what is stored beside masks, offsets and values, each `[rows]`.
    """

    kind: ClassVar[int]
    values: ClassVar[torch.dtype]
    extras: ClassVar[dict[str, tuple[torch.dtype, int]]] = {}

    def unavailable(self) -> str | None:
        """Where the native library is missing."""
        return native.unavailable()

    def refuses(self, shape: tuple[int, int], dtype: torch.dtype, label: str) -> str | None:
        """Types that do not fit into float32, in which products are summed."""
        return None if dtype in FLOATS else f"takes float32, bfloat16 and float16; found {dtype}"

    def encode(self, weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weight in the type of its stored values, and what else is stored."""
        raise NotImplementedError

    def pack(self, weight: Tensor) -> Packed:
        """Masks, where each group's values begin, and the values."""
        stored, others = self.encode(weight)
        tensors = mask_tensors(weight != 0, stored) | others
        return self.open((weight.shape[0], weight.shape[1]), tensors)

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """The stored tensors as they are, copied where they are not aligned to cache lines."""
        kept = {name: native.aligned(tensor) for name, tensor in tensors.items()}
        weight = native.BitmaskWeight(
            rows=shape[0],
            columns=shape[1],
            kind=self.kind,
            finite=bool(kept.get("scales", kept["values"]).isfinite().all()),
            **{name: tensor.data_ptr() for name, tensor in kept.items()},
        )
        return Packed(shape, kept, native.handle(weight, *kept.values()))

    def unpack(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
        """Values to the set bits of the masks, in order."""
        bits = np.unpackbits(tensors["masks"].numpy().view(np.uint8), bitorder="little")
        places = torch.from_numpy(bits.astype(bool)).view(*tensors["masks"].shape, BLOCK)
        blocks = torch.zeros(places.shape, dtype=self.values)
        blocks[places] = tensors["values"][: int(places.sum())]
        weight = blocks.transpose(1, 2).reshape(blocks.shape[0] * GROUP_ROWS, -1)
        return weight[: shape[0], : shape[1]].contiguous()

    def fault(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> str | None:
        """Masks beyond the weight, or values that are not there."""
        wanted = {"masks": (torch.int64, 3), "offsets": (torch.int64, 1), "values": (self.values, 1)}
        if fault := layout_fault(tensors, wanted | self.extras):
            return fault
        masks, offsets, values = tensors["masks"], tensors["offsets"], tensors["values"]
        groups, blocks = -(-shape[0] // GROUP_ROWS), -(-shape[1] // BLOCK)
        if tuple(masks.shape) != (groups, blocks, GROUP_ROWS) or len(offsets) != groups:
            return f"masks {list(masks.shape)} do not fit a weight {list(shape)}"
        counts = torch.from_numpy(np.bitwise_count(masks.numpy().view(np.uint64)).sum(axis=(1, 2), dtype=np.int64))
        if not torch.equal(offsets, counts.cumsum(0) - counts):
            return "offsets do not fit the masks"
        if len(values) < int(counts.sum()) + PADDING // values.element_size():
            return "values are missing"
        short = [name for name in self.extras if len(tensors[name]) != shape[0]]
        return f"tensor {short[0]!r} has not one entry a row" if short else None

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """`x @ W.T`, zeros multiplied like every other weight; more than 8 tokens are taken 8 at a time."""
        assert isinstance(packed.handle, native.Handle)
        return native.product("sparsearch_bitmask", packed.handle, x, packed.shape[0])


def mask_tensors(kept: Tensor, stored: Tensor) -> dict[str, Tensor]:
    """`masks` `[groups, blocks, 2]` int64, `offsets` `[groups]` int64 and `values` of `stored` where `kept`.

    Groups are 2 rows, blocks 64 columns; values lie group by group, in it block by block, in it row by row.
    """
    places = _blocks(kept)
    bits = np.packbits(places.numpy(), axis=-1, bitorder="little")
    counts = places.flatten(1).sum(1)
    values = _blocks(stored)[places]
    padding = torch.zeros(PADDING // values.element_size(), dtype=values.dtype)
    return {
        "masks": torch.from_numpy(bits.view("<i8").squeeze(-1)),
        "offsets": counts.cumsum(0) - counts,
        "values": torch.cat((values, padding)),
    }


def _blocks(matrix: Tensor) -> Tensor:
    """`[groups, blocks, 2, 64]` with zeros around."""
    rows, columns = matrix.shape
    padded = torch.nn.functional.pad(matrix, (0, -columns % BLOCK, 0, -rows % GROUP_ROWS))
    return padded.view(-1, GROUP_ROWS, padded.shape[1] // BLOCK, BLOCK).transpose(1, 2).contiguous()
