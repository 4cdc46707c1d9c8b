"""What all backends of the native library share."""

from __future__ import annotations

import torch

from sparsearch.errors import ResourceError
from sparsearch.hardware import native
from sparsearch.hardware.kernels.base import StoredBackend

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


class NativeBackend(StoredBackend):
    """A kernel of the native library, on weights of any floating type up to float32."""

    # One token in a model is `[1, 1, in]`: reshaping it and its product takes as long as the call of the kernel.
    any_shape = True

    def unavailable(self) -> str | None:
        """Where the native library is missing."""
        return native.unavailable()

    def refuses(self, shape: tuple[int, int], dtype: torch.dtype, label: str) -> str | None:
        """Types that do not fit into float32, in which products are summed."""
        return None if dtype in FLOATS else f"takes float32, bfloat16 and float16; found {dtype}"

    def misfit(self, shape: tuple[int, int]) -> ResourceError:
        """What `check` raises."""
        return ResourceError(
            f"{self.name}: the stored tensors are not those of a weight {shape[0]} x {shape[1]}; pack it again"
        )
