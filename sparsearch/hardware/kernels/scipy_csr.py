"""Compressed sparse rows by scipy: one thread, no vector instructions; a reference that is always there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsearch.hardware.kernels.base import Packed
from sparsearch.hardware.kernels.csr import ScipyRows


class ScipyCSR(ScipyRows):
    """scipy's CSR matrices."""

    name = "scipy_csr"

    def unavailable(self) -> str | None:
        """Never: scipy is required."""
        return None

    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """`(W @ x.T).T`."""
        matrix: Any = packed.handle
        return torch.from_numpy(matrix @ x.detach().T.numpy()).T.contiguous()
