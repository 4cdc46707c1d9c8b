"""Statistics of the dense model that are paid once: first looked up in the journal, then computed and recorded."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.evaluation.statistics import measure
from sparsearch.files import digest
from sparsearch.job.journal import Journal
from sparsearch.search import Measure
from sparsearch.seeds import spawn_integer
from sparsearch.space.space import FloatArray


@dataclass(eq=False)
class JournaledStatistics:
    """Answers `Measure` requests; every array is in the journal before anyone hears of it.

    What is drawn at random follows from the request alone.

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

    def of(self, request: Measure) -> FloatArray:
        """The statistic that `request` asks for."""
        identity = [request.statistic, dict(request.parameters), list(request.sequences)]
        scope = f"{self.supernet}/" if self.supernet else ""
        key = f"statistics/{scope}{request.statistic}/{digest(identity)}"
        arrays = self.journal.arrays(key)
        if arrays is None:
            arrays = self._compute(request, key)
            self.journal.store_arrays(key, arrays)
            self.check()
        self.forward_tokens += float(arrays["spent"][0])
        self.seconds += float(arrays["spent"][1])
        return arrays["values"]

    def _compute(self, request: Measure, key: str) -> dict[str, np.ndarray]:
        begun, before = time.perf_counter(), self.evaluator.spent.tokens
        values = measure(
            self.evaluator, request.statistic, request.sequences, dict(request.parameters), spawn_integer(0, key)
        )
        tokens = self.evaluator.spent.tokens - before
        return {"values": values, "spent": np.array([tokens, time.perf_counter() - begun])}
