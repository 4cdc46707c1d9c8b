"""Dense products as torch does them: the baseline of every comparison."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsearch.errors import ResourceError
from sparsearch.hardware.kernels.base import Packed, StoredBackend


class Dense(StoredBackend):
    """`torch.nn.functional.linear` on the weight with its zeros."""

    name = "dense"
    any_shape = True

    def unavailable(self) -> str | None:
        """Never: torch is required."""
        return None

    def pack(self, weight: Tensor) -> Packed:
        """The weight itself, contiguous."""
        return self.open((weight.shape[0], weight.shape[1]), {"weight": weight.contiguous()})

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """Nothing to do but to check."""
        self.check(shape, tensors)
        return Packed(shape, tensors)

    def unpack(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
        """The weight."""
        return tensors["weight"]

    def check(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> None:
        """Refuses another shape, and what are no floating-point numbers."""
        weight = tensors.get("weight")
        if weight is None or tuple(weight.shape) != shape or not weight.is_floating_point():
            raise ResourceError(f"{self.name}: the stored tensor is no weight {shape[0]} x {shape[1]}; pack it again")

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """`x @ W.T` by the BLAS that torch brings."""
        return torch.nn.functional.linear(x, packed.tensors["weight"])
