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
from sparsearch.hardware.kernels.base import Backend, Packed

GROUP_ROWS = 2
BLOCK = 64
PADDING = 64
"""Bytes behind the last value, because registers are loaded whole."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class Bitmask(Backend):
    """A native kernel on bit masks.

    Attributes:
        kind: of `enum Kind` in kernels.h.
    """

    kind: ClassVar[int]

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
