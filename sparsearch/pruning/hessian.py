"""The Hessian of a site's squared output error, from the gram of its input."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Statistics


def hessian(statistics: Statistics, device: torch.device) -> tuple[Tensor, Tensor]:
    """The Hessian `[in, in]` in float64 and which inputs are dead, bool `[in]`.

    Scaled so that its mean diagonal over live inputs is 1: damping is relative, and neither the number
    of tokens nor the scale of the activations matters. A dead input (zero at every token) gets a 1 on the
    diagonal and touches no other. If no input is live nothing is known: the identity, and none is dead.

    Raises:
        ValueError: the gram cannot be a sum of x x^T.
    """
    assert statistics.gram is not None
    gram = statistics.gram.to(device, torch.float64)
    diagonal = gram.diagonal()
    if (diagonal < 0).any():
        raise ValueError("the gram of the input has a negative diagonal; it is no sum of x x^T")
    dead = diagonal == 0
    if dead.all():
        return torch.eye(len(gram), dtype=torch.float64, device=device), torch.zeros_like(dead)
    scaled = gram / diagonal[~dead].mean()
    scaled.diagonal()[dead] = 1.0
    return scaled, dead


def inverse_factor(matrix: Tensor, damping: float) -> Tensor:
    """Upper triangular U `[in, in]` with U^T U = (matrix + damping I)^-1, float64.

    `damping` grows tenfold until the factorisation works. One Cholesky of the matrix with its order
    reversed and one triangular inverse: H = R R^T with R upper gives U = R^-1, so H^-1 is never formed.
    Costs in^3 multiply-adds.
    """
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    while True:
        reversed_ = (matrix + damping * identity).flip(0, 1)
        lower, failed = torch.linalg.cholesky_ex(reversed_)
        if not failed:
            upper = torch.linalg.solve_triangular(lower, identity, upper=False).flip(0, 1)
            if upper.isfinite().all():
                return upper
        damping *= 10
