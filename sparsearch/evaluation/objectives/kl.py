"""Kullback-Leibler divergence from the dense model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from sparsearch.evaluation.objectives.base import Outputs
from sparsearch.evaluation.objectives.chunks import full_precision, position_chunks
from sparsearch.evaluation.objectives.labels import drawn_log_likelihood
from sparsearch.model.blockwise import Batch


class KL:
    """Mean over positions of `KL(dense || pruned)` in nats, over the full vocabulary (no top-k)."""

    name: ClassVar[str] = "kl"
    title: ClassVar[str] = "KL"
    unit: ClassVar[str] = "nats/token"
    needs_teacher: ClassVar[bool] = True
    needs_head: ClassVar[bool] = True
    passes: ClassVar[int] = 1

    def values(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """Float64 `[batch]`."""
        assert teacher is not None
        tokens = student.hidden.shape[1]
        total = torch.zeros(student.hidden.shape[0], dtype=torch.float64)
        for rows in position_chunks(tokens):
            total = total + kl_divergence(teacher.logits(rows), student.logits(rows)).double().sum(dim=1).cpu()
        return total / tokens

    def probe(
        self, student: Outputs, teacher: Outputs | None, batch: Batch, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Score of labels drawn from the pruned model: the Hessian by its logits is that of KL."""
        return drawn_log_likelihood(student, student.hidden.shape[1], generators)


def kl_divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """`sum_v p_v (log p_v - log q_v)` of the softmaxes p and q of two logit tensors `[..., vocabulary]`."""
    log_p = full_precision(teacher).log_softmax(dim=-1)
    log_q = full_precision(student).log_softmax(dim=-1)
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1)
