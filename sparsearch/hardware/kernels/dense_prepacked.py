"""Dense products with the weight reordered once into oneDNN's blocked layout."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsearch.hardware.kernels.base import Backend, Packed


class DensePrepacked(Backend):
    """oneDNN's linear on a weight in its own layout; often the fastest dense product of a CPU."""

    name = "dense_prepacked"

    def unavailable(self) -> str | None:
        """Where torch was built without oneDNN."""
        if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            return "this torch was built without oneDNN (mkldnn)"
        return None

    def refuses(self, shape: tuple[int, int], dtype: torch.dtype, label: str) -> str | None:
        """float32, and bfloat16 where oneDNN has instructions for it."""
        if dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
            return None
        return f"takes float32, and bfloat16 on processors that have it; found {dtype}"

    def pack(self, weight: Tensor) -> Packed:
        """The weight itself is stored: the blocked layout depends on processor and oneDNN version."""
        return self.open((weight.shape[0], weight.shape[1]), {"weight": weight.contiguous()})

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """Reorders the weight; a second copy of it in memory."""
        return Packed(shape, tensors, torch.ops.mkldnn._reorder_linear_weight(tensors["weight"], None))

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """`x @ W.T` by oneDNN."""
        return torch.ops.mkldnn._linear_pointwise(x.contiguous(), packed.handle, None, "none", [], "")
