"""Labels drawn from a model's own softmax: what turns its Fisher matrix into a sum of squares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sparsearch.evaluation.objectives.base import Outputs
from sparsearch.evaluation.objectives.chunks import full_precision, position_chunks


def drawn_log_likelihood(student: Outputs, tokens: int, generators: Sequence[torch.Generator]) -> Tensor:
    """`sum_t log q_t(y_t) / sqrt(tokens)` with labels y_t drawn from the model's own q_t, `[batch]`.

    The labels of different positions are independent and the expected score is 0, so the outer product of the
    gradient is, in expectation, the Fisher matrix of the mean over positions.

    Args:
        tokens: positions from the first on.
        generators: on the CPU, one a sequence, so that a sequence's labels do not depend on its batch.
    """
    uniform = torch.stack([torch.rand(tokens, generator=generator) for generator in generators])
    total = torch.zeros(len(generators), dtype=torch.float64, device=student.hidden.device)
    for rows in position_chunks(tokens):
        log_q = full_precision(student.logits(rows)).log_softmax(dim=-1)
        chosen = inverse_cdf(log_q.detach().exp(), uniform[:, rows].to(log_q.device))
        total = total + log_q.gather(-1, chosen[..., None]).squeeze(-1).double().sum(dim=1)
    return total / tokens**0.5


def inverse_cdf(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Draws from `probabilities` `[..., n]` by `uniform` `[...]` in [0, 1): int64 `[...]`."""
    cumulative = probabilities.cumsum(dim=-1)
    cut = uniform[..., None] * cumulative[..., -1:]
    return torch.searchsorted(cumulative, cut, right=True).squeeze(-1).clamp(max=probabilities.shape[-1] - 1)
