"""Dense weights of 16 bits for our own kernel. What its two value types share.

A product with one token waits for memory: reading 16 bits a weight in place of 32 halves its time, and the weights
are those of the checkpoint. The libraries widen them with every product or need instructions that few processors
have. Stored are the values of the bit mask layout without the mask: pairs of rows, in blocks of 64 columns.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from sparsearch.hardware import native
from sparsearch.hardware.kernels.base import Packed
from sparsearch.hardware.kernels.blocks import BLOCK, GROUP_ROWS, BlockBackend, all_finite, blocks, matrix_of
from sparsearch.hardware.native.memory import SLABS


class DenseHalf(BlockBackend):
    """A native kernel on all weights, zeros included."""

    def pack(self, weight: Tensor) -> Packed:
        """The values, rounded to the stored type."""
        return self.open((weight.shape[0], weight.shape[1]), {"values": blocks(weight.to(self.stored))})

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """The stored values, copied to large pages.

        Raises:
            ResourceError: there are more or fewer of them than the kernel would read.
        """
        self.check(shape, tensors)
        values = SLABS.place(tensors["values"])
        weight = native.BitmaskWeight(
            rows=shape[0], columns=shape[1], kind=self.kind, finite=all_finite(values), values=values.data_ptr()
        )
        return Packed(shape, {"values": values}, native.handle(weight, values))

    def check(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> None:
        """Refuses another type or shape than the weight's."""
        wanted = (-(-shape[0] // GROUP_ROWS), -(-shape[1] // BLOCK), GROUP_ROWS, BLOCK)
        found = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
        if found != {"values": (self.stored, wanted)}:
            raise self.misfit(shape)

    def unpack(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
        """Rows and columns in order again."""
        return matrix_of(tensors["values"], shape)
