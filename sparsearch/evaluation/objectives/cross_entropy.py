"""Cross-entropy of the text itself: the logarithm of perplexity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from sparsearch.errors import ConfigError
from sparsearch.evaluation.objectives.base import Outputs
from sparsearch.evaluation.objectives.chunks import full_precision, position_chunks
from sparsearch.evaluation.objectives.labels import drawn_log_likelihood
from sparsearch.model.blockwise import Batch


class CrossEntropy:
    """Mean negative log-likelihood of the next token in nats; perplexity is its exponential."""

    name: ClassVar[str] = "perplexity"
    title: ClassVar[str] = "cross-entropy"
    unit: ClassVar[str] = "nats/token"
    needs_teacher: ClassVar[bool] = False
    needs_head: ClassVar[bool] = True
    passes: ClassVar[int] = 1

    def values(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """Float64 `[batch]`."""
        if "input_ids" not in batch or batch["input_ids"].shape[1] < 2:
            raise ConfigError("objective: cross-entropy needs sequences of at least 2 tokens (input_ids)")
        targets = batch["input_ids"][:, 1:]
        tokens = targets.shape[1]
        total = torch.zeros(targets.shape[0], dtype=torch.float64)
        for rows in position_chunks(tokens):
            logits = full_precision(student.logits(rows))
            nll = functional.cross_entropy(logits.flatten(0, 1), targets[:, rows].flatten(), reduction="none")
            total = total + nll.view(targets.shape[0], -1).double().sum(dim=1).cpu()
        return total / tokens

    def probe(
        self, student: Outputs, teacher: Outputs | None, batch: Batch, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """Score of labels drawn from the pruned model at the positions that have a next token."""
        return drawn_log_likelihood(student, student.hidden.shape[1] - 1, generators)
