"""Measured times of whole models on the runtime's modules: what a table needs to predict an allocation's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sparsearch.files import digest
from sparsearch.model.prunable import PrunableModel
from sparsearch.space.level import DENSE_LABEL


@dataclass(frozen=True, slots=True)
class Run:
    """One whole model at one level everywhere.

    Attributes:
        tokens: 1 for decoding one token behind a short cache, else a prefill of so many.
        label: of the level.
        seconds: of one forward, median over rounds.
        spread: interquartile range over median.
    """

    tokens: int
    label: str
    seconds: float
    spread: float


@dataclass(frozen=True, slots=True)
class ModelRuns:
    """The runs of one model, with every linear packed for the backend that the table's cells say is the fastest.

    Attributes:
        architecture: `architecture` of the model; runs count for all models that share it.
        name: of the model that was measured, for people.
        storage: type of its checkpoint, by torch's name; it decides which kernels keep its weights as they are.
        linears: the packed ones by site name, with their shapes `(out, in)`.
        runs: measured so far.
    """

    architecture: str
    name: str
    storage: str
    linears: Mapping[str, tuple[int, int]]
    runs: tuple[Run, ...] = ()

    @property
    def tokens(self) -> list[int]:
        """Token counts with a dense run and a sparse one, in ascending order."""
        return sorted({run.tokens for run in self.runs if {DENSE_LABEL} < set(self.of(run.tokens))})

    def of(self, tokens: int) -> dict[str, Run]:
        """The runs at one token count by label."""
        return {run.label: run for run in self.runs if run.tokens == tokens}

    def with_runs(self, runs: list[Run]) -> ModelRuns:
        """The same with `runs` in place of those of their token counts."""
        counts = {run.tokens for run in runs}
        return replace(self, runs=(*(run for run in self.runs if run.tokens not in counts), *runs))


def architecture(model: PrunableModel) -> str:
    """Equal for models that take the same time: class, names and shapes of all parameters, the checkpoint's type."""
    shapes = [[name, list(parameter.shape)] for name, parameter in model.module.named_parameters()]
    return digest([type(model.module).__name__, shapes, str(model.storage_dtype)])
