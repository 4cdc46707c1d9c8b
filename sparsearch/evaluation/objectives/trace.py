"""Correlation of gradient traces with the dense model's: a zero-shot proxy for what training would make of a model."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor


class GradientTrace:
    """`1 - sum_u r_u rho_u / sum_u r_u`: how far the gradients of the text's loss have turned from the dense ones.

    Malettira et al., "TraceNAS: Zero-shot LLM Pruning via Gradient Trace Correlation" (2026): rho_u is Pearson's
    correlation, over the entries of site u, of the low-rank gradient of the pruned model with that of the dense
    model, which does not depend on how large gradients are; the weights r_u are what is left of the site. 0 for the
    dense model, about 1 where nothing is left in common, at most 2. Smaller is better.

    Deviations: the paper takes the gradient of the mean loss over all text, here each sequence has its own
    correlation, so that values of sequences can be compared in pairs; r_u counts weights and is divided by their sum
    (the paper maximises the sum); what low rank means is said in `Tracer`. For models that predict the next token.
    Measured (`benchmarks/correlation_sheet.py`, 16 sequences, 201 allocations): it ranks them as held-out KL does
    with a tau of 0.954, the paper's form with 0.939, KL itself, for a third of the tokens, with 0.958.
    """

    name: ClassVar[str] = "trace"
    title: ClassVar[str] = "gradient-trace distance"
    unit: ClassVar[str] = ""
    needs_teacher: ClassVar[bool] = False
    needs_head: ClassVar[bool] = True
    passes: ClassVar[int] = 3

    def compare(self, student: Tensor, dense: Tensor, kept: Tensor) -> Tensor:
        """Float64 `[batch]`."""
        correlations = pearson(student.double(), dense.double())
        return 1 - (correlations * kept).sum(dim=1) / kept.sum().clamp(min=1)


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation over the last dimension.

    Where one of them does not vary there is none: 1 if both are equal (no gradient came to either), else 0. NaN stays.
    """
    centred = [each - each.mean(dim=-1, keepdim=True) for each in (first, second)]
    norms = [each.norm(dim=-1) for each in centred]
    both = norms[0] * norms[1]
    constant = both == 0
    found = (centred[0] * centred[1]).sum(dim=-1) / torch.where(constant, 1, both)
    return torch.where(constant, (first == second).all(dim=-1).to(first.dtype), found)
