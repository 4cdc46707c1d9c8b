"""Dense weights of 16 bits for our own kernel. What its two value types share.

A product with one token waits for memory: reading 16 bits a weight in place of 32 halves its time, and the weights
are those of the checkpoint. The libraries widen them with every product or need instructions that few processors
have. Stored are the values of the bit mask layout without the mask: pairs of rows, in blocks of 64 columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from sparsearch.errors import ResourceError
from sparsearch.hardware import native
from sparsearch.hardware.kernels import many_tokens
from sparsearch.hardware.kernels.base import Packed
from sparsearch.hardware.kernels.bitmask import BLOCK, GROUP_ROWS, blocks
from sparsearch.hardware.kernels.native_backend import NativeBackend
from sparsearch.hardware.native.memory import SLABS


class DenseHalf(NativeBackend):
    """A native kernel on all weights, zeros included.

    Attributes:
        kind: of `enum Kind` in kernels.h.
        stored: type of the values.
    """

    kind: ClassVar[int]
    stored: ClassVar[torch.dtype]

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
        finite = bool(values.isfinite().all())
        weight = native.BitmaskWeight(
            rows=shape[0], columns=shape[1], kind=self.kind, finite=finite, values=values.data_ptr()
        )
        return Packed(shape, {"values": values}, native.handle(weight, values))

    def check(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> None:
        """Refuses another type or shape than the weight's."""
        wanted = (-(-shape[0] // GROUP_ROWS), -(-shape[1] // BLOCK), GROUP_ROWS, BLOCK)
        values = tensors.get("values")
        if (
            tensors.keys() != {"values"}
            or values is None
            or (values.dtype, tuple(values.shape)) != (self.stored, wanted)
        ):
            raise ResourceError(
                f"{self.name}: the stored tensors are not those of a weight {shape[0]} x {shape[1]}; pack it again"
            )

    def unpack(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
        """Rows and columns in order again."""
        values = tensors["values"]
        weight = values.transpose(1, 2).reshape(values.shape[0] * GROUP_ROWS, -1)
        return weight[: shape[0], : shape[1]].contiguous()

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """`x @ W.T`; tokens are taken 8 at a time, or many at once."""
        assert isinstance(packed.handle, native.Handle)
        return many_tokens.product(packed.handle, x, packed.shape[0])
