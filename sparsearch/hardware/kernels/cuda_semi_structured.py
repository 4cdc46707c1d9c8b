"""2:4 weights on the sparse tensor cores of a CUDA device, through torch's semi-structured tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparsearch.hardware.kernels.base import Backend, Packed
from sparsearch.hardware.kernels.cuda_dense import NO_DEVICE

ROWS, COLUMNS = 32, 64
AMPERE = (8, 0)


class CudaSemiStructured(Backend):
    """torch's semi-structured tensors (cuSPARSELt or CUTLASS) for the level 2:4."""

    name = "cuda_semi_structured"
    device = "cuda"
    tolerance = 1e-2

    def unavailable(self) -> str | None:
        """Without a device that has sparse tensor cores."""
        if not torch.cuda.is_available():
            return NO_DEVICE
        found = torch.cuda.get_device_capability()
        if found < AMPERE:
            return f"needs compute capability 8.0 or more; found {found[0]}.{found[1]}"
        return None

    def refuses(self, shape: tuple[int, int], dtype: torch.dtype, label: str) -> str | None:
        """Other patterns, types and sides than the tensor cores take."""
        if label != "2:4":
            return f"takes the level 2:4; found {label}"
        if dtype not in (torch.float16, torch.bfloat16):
            return f"takes float16 and bfloat16; found {dtype}"
        if shape[0] % ROWS or shape[1] % COLUMNS:
            return f"takes {ROWS} times N rows and {COLUMNS} times M columns; found {shape[0]} x {shape[1]}"
        return None

    def pack(self, weight: Tensor) -> Packed:
        """Two values of every four, and where they stood."""
        return self.open((weight.shape[0], weight.shape[1]), compress(weight))

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """The library's own layout, made on the device from the expanded weight."""
        from torch.sparse import to_sparse_semi_structured

        weight = expand(shape, tensors).to(self.device)
        return Packed(shape, tensors, to_sparse_semi_structured(weight))

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """`x @ W.T`; x lies on the device, torch pads its tokens."""
        assert isinstance(packed.handle, Tensor)
        return torch.nn.functional.linear(x, packed.handle)


def compress(weight: Tensor) -> dict[str, Tensor]:
    """`values` `[out, in / 2]`, and `places` `[out, in / 4]`: the positions in a group of four, first + 4 second.

    Raises:
        ValueError: a group has more than two non-zeros.
    """
    groups = weight.reshape(weight.shape[0], -1, 4)
    if int((groups != 0).sum(-1).max()) > 2:
        raise ValueError("the weight is not 2:4: a group of four inputs has more than two non-zeros")
    # Stable, so that among equals (zeros that fill a group) the first positions are taken.
    kept = (groups == 0).to(torch.int8).sort(dim=-1, stable=True).indices[..., :2].sort(dim=-1).values
    values = groups.gather(-1, kept).reshape(weight.shape[0], -1)
    return {"values": values.contiguous(), "places": (kept[..., 0] + 4 * kept[..., 1]).to(torch.uint8)}


def expand(shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
    """The weight that `compress` took."""
    places = tensors["places"].long()
    kept = torch.stack((places % 4, places // 4), dim=-1)
    values = tensors["values"].reshape(kept.shape)
    groups = torch.zeros(*places.shape, 4, dtype=values.dtype)
    return groups.scatter_(-1, kept, values).reshape(shape)
