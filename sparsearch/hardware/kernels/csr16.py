"""Compressed sparse rows with 16-bit columns, broadcast over tokens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from sparsearch.hardware import native
from sparsearch.hardware.kernels.base import Packed
from sparsearch.hardware.kernels.native_backend import NativeBackend
from sparsearch.hardware.native.memory import SLABS

ROW_BLOCK = 64
CHUNK = 128
"""Columns whose inputs, with 64 tokens, fill the first-level cache."""

MOST_COLUMNS = 2**16


class Csr16(NativeBackend):
    """Our kernel for 8 to 256 tokens and for high sparsity: rows with 16-bit columns, broadcast over the tokens."""

    name = "csr16"

    def refuses(self, shape: tuple[int, int], dtype: torch.dtype, label: str) -> str | None:
        """More columns than 16 bits can name, more weights than 32 bits can count, and types beyond float32."""
        if shape[1] > MOST_COLUMNS:
            return f"takes up to {MOST_COLUMNS} columns; found {shape[1]}"
        if shape[0] * shape[1] >= 2**31:
            return f"takes less than 2**31 weights; found {shape[0]} x {shape[1]}"
        return super().refuses(shape, dtype, label)

    def pack(self, weight: Tensor) -> Packed:
        """Starts, columns and float32 values, in blocks of rows and chunks of columns."""
        return self.open((weight.shape[0], weight.shape[1]), chunk_tensors(weight))

    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """The stored tensors, copied to large pages.

        Raises:
            ResourceError: they do not fit together, so that the kernel would read what is not theirs.
        """
        self.check(shape, tensors)
        kept = {name: SLABS.place(tensor) for name, tensor in tensors.items()}
        pointers = {name: tensor.data_ptr() for name, tensor in kept.items()}
        weight = native.Csr16Weight(rows=shape[0], columns=shape[1], chunks=-(-shape[1] // CHUNK), **pointers)
        return Packed(shape, kept, native.handle(weight, *kept.values()))

    def check(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> None:
        """Refuses stored tensors of other types, lengths or columns than the weight's."""
        cells = -(-shape[0] // ROW_BLOCK) * -(-shape[1] // CHUNK) * ROW_BLOCK
        types = {"starts": torch.int32, "indices": torch.int16, "values": torch.float32}
        fits = {name: tensor.dtype for name, tensor in tensors.items()} == types and tensors["starts"].shape == (
            cells + 1,
        )
        if fits:
            starts, columns = tensors["starts"].numpy(), tensors["indices"].numpy().view(np.uint16)
            fits = starts[0] == 0 and bool((starts[1:] >= starts[:-1]).all())
            fits = fits and tensors["values"].shape == columns.shape == (starts[-1],)
            fits = fits and int(columns.max(initial=0)) < shape[1]
        if not fits:
            raise self.misfit(shape)

    def unpack(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
        """Values to their rows and columns."""
        starts, chunks = tensors["starts"].long(), -(-shape[1] // CHUNK)
        blocks = -(-shape[0] // ROW_BLOCK)
        # Runs go by row block, chunk and row.
        rows = torch.arange(blocks * ROW_BLOCK).view(blocks, 1, ROW_BLOCK).expand(-1, chunks, -1).flatten()
        weight = tensors["values"].new_zeros(blocks * ROW_BLOCK, shape[1])
        columns = tensors["indices"].long() & (MOST_COLUMNS - 1)
        weight[torch.repeat_interleave(rows, starts.diff()), columns] = tensors["values"]
        return weight[: shape[0]].contiguous()

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """`x @ W.T`; where x has infinities or NaN, the zeros are multiplied with them too."""
        assert isinstance(packed.handle, native.Handle)
        return native.product("sparsearch_csr16", packed.handle, x, packed.shape[0])


def chunk_tensors(weight: Tensor) -> dict[str, Tensor]:
    """`starts` int32 `[row blocks, chunks, 64]` and the end, `indices` (unsigned 16-bit as int16) and `values`.

    The non-zeros of 64 rows lie together, in them those of a chunk of columns, in them row by row.
    """
    rows, columns = weight.shape
    padded = torch.nn.functional.pad(weight, (0, -columns % CHUNK, 0, -rows % ROW_BLOCK))
    blocks = padded.view(-1, ROW_BLOCK, padded.shape[1] // CHUNK, CHUNK).transpose(1, 2).contiguous()
    kept = blocks != 0
    ends = kept.sum(-1).flatten().cumsum(0)
    names = torch.arange(padded.shape[1], dtype=torch.int32).to(torch.int16).view(1, -1, 1, CHUNK)
    return {
        "starts": torch.cat((ends.new_zeros(1), ends)).to(torch.int32),
        "indices": names.expand(blocks.shape)[kept],
        "values": blocks[kept].to(torch.float32),
    }
