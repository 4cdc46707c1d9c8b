"""What an objective is given and gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from sparsearch.model.blockwise import Batch


class Outputs(Protocol):
    """One model's outputs on a batch, computed only where an objective asks for them."""

    hidden: Tensor
    """Last hidden states `[batch, tokens, width]`."""

    def logits(self, rows: slice) -> Tensor:
        """Logits `[batch, rows, vocabulary]` at the token positions `rows`."""


class Objective(Protocol):
    """What is minimised; one value per sequence. Either an `OutputObjective` or a `TraceObjective`."""

    name: ClassVar[str]
    title: ClassVar[str]
    """How reports call it."""
    unit: ClassVar[str]
    needs_teacher: ClassVar[bool]
    """Whether it compares with the dense model's outputs."""
    needs_head: ClassVar[bool]
    passes: ClassVar[int]
    """Forwards of a sequence that a value takes, a backward counted as two."""


@runtime_checkable
class OutputObjective(Objective, Protocol):
    """Compares outputs, of one forward; it can be differentiated, so that there are sensitivities."""

    def values(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
        """Float64 `[batch]`, differentiable where gradients are on."""

    def probe(
        self, student: Outputs, teacher: Outputs | None, batch: Batch, generators: Sequence[torch.Generator]
    ) -> Tensor:
        """One random scalar a sequence `[batch]` whose gradients span the curvature.

        With p = the probe and J its gradient by any weights, `E[J J^T]` is the Gauss-Newton matrix of this
        objective at the current weights (for likelihoods: the Fisher matrix).

        Args:
            generators: on the CPU, one a sequence.
        """


@runtime_checkable
class TraceObjective(Objective, Protocol):
    """Compares gradients, of one forward and one backward; it cannot be differentiated once more."""

    def compare(self, student: Tensor, dense: Tensor, kept: Tensor) -> Tensor:
        """Float64 `[batch]` from gradient traces.

        Args:
            student: traces of the model as it stands `[batch, sites, numbers]` (`Tracer`).
            dense: those of the dense model.
            kept: weights that each site has left, float64 `[sites]`.
        """
