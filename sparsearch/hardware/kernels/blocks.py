"""The layout that our bit mask and dense kernels read: pairs of rows, in blocks of 64 columns."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from sparsearch.hardware import native
from sparsearch.hardware.kernels import many_tokens
from sparsearch.hardware.kernels.base import Packed
from sparsearch.hardware.kernels.native_backend import NativeBackend

GROUP_ROWS = 2
BLOCK = 64


class BlockBackend(NativeBackend):
    """A kernel on weights in this layout.

    Attributes:
        kind: of `enum Kind` in kernels.h.
        stored: type of the values.
        most_tokens: in float32; with more, spreading the weight for every eight of them takes longer than spreading it
            once, into memory.
    """

    kind: ClassVar[int]
    stored: ClassVar[torch.dtype]
    most_tokens: ClassVar[int] = 64

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """`x @ W.T` of x `[..., in]`, zeros multiplied like every other weight; 8 or 32 tokens at a time, or all."""
        assert isinstance(packed.handle, native.Handle)
        return many_tokens.product(packed.handle, x, packed.shape[0], self.most_tokens)


def blocks(matrix: Tensor) -> Tensor:
    """A matrix as `[groups, blocks, 2, 64]`, with zeros around."""
    rows, columns = matrix.shape
    padded = torch.nn.functional.pad(matrix, (0, -columns % BLOCK, 0, -rows % GROUP_ROWS))
    return padded.view(-1, GROUP_ROWS, padded.shape[1] // BLOCK, BLOCK).transpose(1, 2).contiguous()


def matrix_of(values: Tensor, shape: tuple[int, int]) -> Tensor:
    """The inverse of `blocks`."""
    whole = values.transpose(1, 2).reshape(values.shape[0] * GROUP_ROWS, -1)
    return whole[: shape[0], : shape[1]].contiguous()


def all_finite(values: Tensor) -> bool:
    """Whether no value is infinite or NaN. `isfinite` makes copies: at loading they were the most of all memory."""
    return not values.numel() or all(bool(end.isfinite()) for end in values.aminmax())
