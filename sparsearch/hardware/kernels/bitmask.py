"""Bit mask and packed non-zeros: loaded as sparse, computed as dense. What its value types share.

The mask costs 1 bit a weight, so that a one-token product, which waits for memory, reads
`bits of a value * (1 - sparsity) + 1` bits a weight. Values are spread over registers in the order of their mask
(Fan et al. 2025, arXiv:2502.12444 on the same idea with AMX; Xia et al. 2024, arXiv:2309.10285 on GPUs).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sparsearch.hardware import native
from sparsearch.hardware.kernels.base import Packed
from sparsearch.hardware.kernels.blocks import BLOCK, GROUP_ROWS, BlockBackend, all_finite, blocks, matrix_of
from sparsearch.hardware.native.memory import SLABS

PADDING = 64
"""Bytes behind the last value, because registers are loaded whole."""


class Bitmask(BlockBackend):
    """A native kernel on bit masks."""

    @abstractmethod
    def encode(self, weight: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weight in the type of its stored values, and what else is stored."""

    def pack(self, weight: Tensor) -> Packed:
        """Masks, where each group's values begin, and the values."""
        stored, others = self.encode(weight)
        tensors = mask_tensors(weight != 0, stored) | others
        return self.open((weight.shape[0], weight.shape[1]), tensors)

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """The stored tensors, copied to large pages.

        Raises:
            ResourceError: they do not fit together, so that the kernel would read what is not theirs.
        """
        self.check(shape, tensors)
        kept = {name: SLABS.place(tensor) for name, tensor in tensors.items()}
        weight = native.BitmaskWeight(
            rows=shape[0],
            columns=shape[1],
            kind=self.kind,
            finite=all_finite(kept.get("scales", kept["values"])),
            **{name: tensor.data_ptr() for name, tensor in kept.items()},
        )
        return Packed(shape, kept, native.handle(weight, *kept.values()))

    def check(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> None:
        """Refuses stored tensors of other types, lengths or counts than the weight's."""
        groups, across = -(-shape[0] // GROUP_ROWS), -(-shape[1] // BLOCK)
        wanted = {"masks": (torch.int64, (groups, across, GROUP_ROWS)), "offsets": (torch.int64, (groups,))}
        wanted |= self.beside(shape)
        fits = tensors.keys() == {*wanted, "values"} and tensors["values"].dtype == self.stored
        fits = fits and all((tensors[name].dtype, tuple(tensors[name].shape)) == what for name, what in wanted.items())
        if not (fits and _counts_fit(tensors)):
            raise self.misfit(shape)

    def unpack(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
        """Values to the set bits of the masks, in order."""
        bits = np.unpackbits(tensors["masks"].numpy().view(np.uint8), bitorder="little")
        places = torch.from_numpy(bits.astype(bool)).view(*tensors["masks"].shape, BLOCK)
        values = torch.zeros(places.shape, dtype=self.stored)
        values[places] = tensors["values"][: int(places.sum())]
        return matrix_of(values, shape)

    def beside(self, shape: tuple[int, int]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Type and shape of what `encode` stores beside the values."""
        return {}


def mask_tensors(kept: Tensor, stored: Tensor) -> dict[str, Tensor]:
    """`masks` `[groups, blocks, 2]` int64, `offsets` `[groups]` int64 and `values` of `stored` where `kept`.

    Groups are 2 rows, blocks 64 columns; values lie group by group, in it block by block, in it row by row.
    """
    places = blocks(kept)
    bits = np.packbits(places.numpy(), axis=-1, bitorder="little")
    counts = places.flatten(1).sum(1)
    values = blocks(stored)[places]
    padding = torch.zeros(PADDING // values.element_size(), dtype=values.dtype)
    return {
        "masks": torch.from_numpy(bits.view("<i8").squeeze(-1)),
        "offsets": counts.cumsum(0) - counts,
        "values": torch.cat((values, padding)),
    }


def _counts_fit(tensors: Mapping[str, Tensor]) -> bool:
    """Whether there are as many values as bits, for each group from its offset on."""
    ends = np.cumsum(np.bitwise_count(tensors["masks"].numpy().view(np.uint64)).sum((1, 2), dtype=np.int64))
    starts = np.concatenate(([0], ends[:-1]))
    length = int(ends[-1]) + PADDING // tensors["values"].element_size()
    return np.array_equal(tensors["offsets"].numpy(), starts) and tuple(tensors["values"].shape) == (length,)
