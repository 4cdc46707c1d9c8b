"""The loop that answers a searcher from the journal, and from the evaluator what the journal does not know."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.job.journal import Journal
from sparsearch.job.measuring import JournaledStatistics
from sparsearch.job.sensing import JournaledSensitivities, teach
from sparsearch.search import Answer, Evaluate, Measure, Progress, Rebuild, Request, Searcher
from sparsearch.space import Allocation
from sparsearch.space.space import FloatArray
from sparsearch.supernet import Supernet

Report = Callable[[Progress, float], None]
"""Called with the searcher's progress and the tokens evaluated; may raise to stop, nothing is lost."""

Rebuilder = Callable[[Allocation], Supernet]
"""Builds the supernet around an allocation, or opens it where an earlier run has built it. The model is dense."""


def no_rebuilding(allocation: Allocation) -> Supernet:
    """For loops whose searchers ask for no supernets."""
    raise ValueError("this loop has no supernets built")


@dataclass(frozen=True, slots=True)
class Milestone:
    """A new incumbent: after so many forward tokens (a backward counted as two, memo hits left out)."""

    tokens: float
    allocation: Allocation


@dataclass(eq=False)
class JournaledEvaluations:
    """Evaluations of one panel that are paid once: first looked up in the journal, then computed and recorded.

    Every computed value is in the journal before anyone hears of it.

    Attributes:
        supernet: fingerprint of the supernet whose variants are in the model; "" for the job's own.
    """

    evaluator: Evaluator
    journal: Journal
    panel: str
    check: Callable[[], None] = lambda: None
    computed: int = 0
    supernet: str = ""

    @property
    def key(self) -> str:
        """What the journal knows the panel by: one name a supernet, so that values of two never mix."""
        return f"{self.panel} on {self.supernet}" if self.supernet else self.panel

    def move_to(self, supernet: Supernet) -> None:
        """From now on evaluates on another supernet than the job's own."""
        self.evaluator.switcher.exchange(supernet)
        self.supernet = supernet.fingerprint

    def values(self, allocations: tuple[Allocation, ...], sequences: tuple[int, ...]) -> FloatArray:
        """The first objective, float64 `[allocations, sequences]`."""
        return self.all_values(allocations, sequences)[self.evaluator.objectives[0].name]

    def all_values(self, allocations: tuple[Allocation, ...], sequences: tuple[int, ...]) -> dict[str, FloatArray]:
        """Per objective float64 `[allocations, sequences]`."""
        names = [objective.name for objective in self.evaluator.objectives]
        groups: dict[tuple[int, ...], list[Allocation]] = {}
        for allocation in dict.fromkeys(allocations):
            missing = self._missing(allocation, sequences)
            if missing:
                groups.setdefault(missing, []).append(allocation)
        # In an order that does not depend on how much of the request an earlier run has answered.
        for missing, group in sorted(groups.items()):
            self._compute(group, missing)
        tables = {}
        for name in names:
            rows = (self.journal.known(self.key, name, allocation) for allocation in allocations)
            tables[name] = np.array([[known[sequence] for sequence in sequences] for known in rows])
        return tables

    def _missing(self, allocation: Allocation, sequences: tuple[int, ...]) -> tuple[int, ...]:
        """A kill between two objectives of one evaluation leaves the last one unknown: that one decides."""
        known = self.journal.known(self.key, self.evaluator.objectives[-1].name, allocation)
        return tuple(sequence for sequence in sequences if sequence not in known)

    def _compute(self, allocations: list[Allocation], sequences: tuple[int, ...]) -> None:
        teach(self.evaluator, sequences)
        for evaluation in self.evaluator.evaluate(allocations, sequences):
            allocation = allocations[evaluation.index]
            tokens, seconds = evaluation.forward_tokens, evaluation.seconds
            for name, values in evaluation.values.items():
                if not self.journal.known(self.key, name, allocation).keys() >= set(sequences):
                    self.journal.append(self.key, name, allocation, sequences, values, tokens, seconds)
                # All objectives come from one forward, which is charged once.
                tokens = seconds = 0.0
            self.computed += 1
            self.check()


@dataclass(eq=False)
class SearchLoop:
    """Drives a searcher to its end. Resume is the same call again: the journal answers what it knows.

    Attributes:
        milestones: every new incumbent.
        tokens: forward tokens that the searcher's requests cost, a backward counted as two, prefix reuse left out.
        memo_tokens: tokens that were asked for again and cost nothing.
        searcher_seconds: in the searcher itself.
        rebuild_seconds: in building supernets, or opening them.
        rebuilt: the allocation around which the last supernet was built; None: it is the job's own.
    """

    searcher: Searcher
    evaluations: JournaledEvaluations
    report: Report = lambda progress, tokens: None
    rebuilder: Rebuilder = no_rebuilding
    milestones: list[Milestone] = field(default_factory=list)
    tokens: float = 0.0
    memo_tokens: float = 0.0
    searcher_seconds: float = 0.0
    rebuild_seconds: float = 0.0
    rebuilt: Allocation | None = None

    def __post_init__(self) -> None:
        paid = self.evaluations
        self.sensitivities = JournaledSensitivities(paid.evaluator, paid.journal, paid.check, paid.supernet)
        self.statistics = JournaledStatistics(paid.evaluator, paid.journal, paid.check, paid.supernet)
        self._asked: dict[tuple[str, Allocation], set[int]] = {}

    def run(self) -> Allocation:
        """The searcher's final allocation."""
        while (request := self._ask()) is not None:
            answer = self._answer(request)
            self._count(request)
            self._tell(answer)
            self._note(self.searcher.progress.incumbent)
            self.report(self.searcher.progress, self.tokens)
        self._note(self.searcher.best)
        return self.searcher.best

    def _answer(self, request: Request) -> Answer:
        if isinstance(request, Evaluate):
            return self.evaluations.values(request.allocations, request.sequences)
        if isinstance(request, Rebuild):
            return self._rebuild(request.allocation)
        return self.statistics.of(request) if isinstance(request, Measure) else self.sensitivities.at(request)

    def _rebuild(self, allocation: Allocation) -> FloatArray:
        """Puts another supernet in the place of the present one; its output errors."""
        self.evaluations.evaluator.switcher.restore()  # supernets are built from the dense model
        begun = time.perf_counter()
        try:
            supernet = self.rebuilder(allocation)
        finally:
            self.rebuild_seconds += time.perf_counter() - begun
        self.evaluations.move_to(supernet)
        self.sensitivities.supernet = self.statistics.supernet = supernet.fingerprint
        self.rebuilt = allocation
        errors = supernet.errors
        return np.full(supernet.space.valid.shape, np.nan) if errors is None else errors

    def _ask(self) -> Request | None:
        begun = time.perf_counter()
        request = self.searcher.ask()
        self.searcher_seconds += time.perf_counter() - begun
        return request

    def _tell(self, answer: Answer) -> None:
        begun = time.perf_counter()
        self.searcher.tell(answer)
        self.searcher_seconds += time.perf_counter() - begun

    def _count(self, request: Request) -> None:
        length = self.searcher.problem.tokens
        if not isinstance(request, Evaluate):
            self.tokens += request.forwards * length
            return
        each = length * self.evaluations.evaluator.objectives[0].passes
        for allocation in request.allocations:
            asked = self._asked.setdefault((self.evaluations.supernet, allocation), set())
            new = len(set(request.sequences) - asked)
            self.tokens += new * each
            self.memo_tokens += (len(request.sequences) - new) * each
            asked.update(request.sequences)

    def _note(self, incumbent: Allocation | None) -> None:
        if incumbent is not None and (not self.milestones or self.milestones[-1].allocation != incumbent):
            self.milestones.append(Milestone(self.tokens, incumbent))
