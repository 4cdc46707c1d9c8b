"""Sensitivities that are paid once: first looked up in the journal, then computed and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.evaluation.sensitivity import Sensitivity
from sparsearch.files import digest
from sparsearch.job.journal import Journal
from sparsearch.search import Sense
from sparsearch.seeds import spawn_integer
from sparsearch.space.sensitivities import Sensitivities


@dataclass(eq=False)
class JournaledSensitivities:
    """Answers `Sense` requests; every table is in the journal before anyone hears of it.

    The Gauss-Newton draws follow from the request alone.

    Attributes:
        supernet: fingerprint of the supernet that answers; "" for the job's own.
        forward_tokens: what all requests so far cost, a backward counted as two forwards, those that an earlier
            run paid for included; `seconds` likewise.
    """

    evaluator: Evaluator
    journal: Journal
    check: Callable[[], None] = lambda: None
    supernet: str = ""
    forward_tokens: float = field(default=0.0, init=False)
    seconds: float = field(default=0.0, init=False)

    @cached_property
    def _sensitivity(self) -> Sensitivity:
        """Made at the first request: some objectives have none."""
        return Sensitivity(self.evaluator)

    def at(self, request: Sense) -> Sensitivities:
        """The tables that `request` asks for."""
        key = self._key(request)
        arrays = self.journal.arrays(key)
        if arrays is None:
            arrays = self._compute(request, key)
            self.journal.store_arrays(key, arrays)
            self.check()
        self.forward_tokens += float(arrays["spent"][0])
        self.seconds += float(arrays["spent"][1])
        return Sensitivities(arrays.get("gradient"), arrays.get("features"))

    def _compute(self, request: Sense, key: str) -> dict[str, np.ndarray]:
        begun, before = time.perf_counter(), self.evaluator.spent.tokens
        teach(self.evaluator, request.sequences)
        found = self._sensitivity.at(
            request.allocation,
            request.sequences,
            gradient=request.gradient,
            draws=request.draws,
            seed=spawn_integer(0, key),
        )
        tokens = self.evaluator.spent.tokens - before
        tables = {"gradient": found.gradient, "features": found.features}
        arrays = {name: table for name, table in tables.items() if table is not None}
        return arrays | {"spent": np.array([tokens, time.perf_counter() - begun])}

    def _key(self, request: Sense) -> str:
        identity = [list(request.allocation.levels), list(request.sequences), request.gradient, request.draws]
        scope = f"{self.supernet}/" if self.supernet else ""
        return f"sensitivities/{scope}{self.evaluator.objectives[0].name}/{digest(identity)}"


def teach(evaluator: Evaluator, sequences: tuple[int, ...]) -> None:
    """Runs the dense model on `sequences`, in groups that are the same in every run.

    The last bits of a forward depend on which sequences share it, and a resumed run has not asked what the
    run before it had: groups that follow from the requests would give it other values.
    """
    size, count = evaluator.batch_size, len(evaluator.panel)
    for start in sorted({sequence // size * size for sequence in sequences}):
        evaluator.learn(range(start, min(start + size, count)))
