"""Bayesian optimisation over a low-dimensional basis: what `tpe` and `gp` share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sparsearch.errors import ConfigError
from sparsearch.search.base import Options, Problem, Progress, Request, Steps
from sparsearch.search.basis import Basis, depth_basis
from sparsearch.search.checks import positive_integer
from sparsearch.search.coefficients import PATIENCE, CoefficientOptions, CoefficientSearcher, Propose
from sparsearch.search.moves import level_switch
from sparsearch.search.scores import draw_sequences
from sparsearch.search.tradeoff import Descent, Tradeoff, lowest, resource_names
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import uniform

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

ATTEMPTS = 100
"""Mutants in a row that are known already, after which the polish has no new neighbours."""

MOST_SWITCHES = 3

STARTS = 8
"""First trials of a search for a front: no coefficients, from the budget down to the least of the resources."""

MOST_POINTS = 32
"""Of a front that are evaluated again at the end."""


@dataclass(frozen=True, slots=True)
class BayesianOptions(CoefficientOptions):
    """Options of `tpe` and `gp`.

    Attributes:
        batch: trials that are evaluated together. The sampler takes those that are pending into account, but
            learns less from each.
        polish: evaluations of level switches around the best allocation afterwards, each site on its own; with
            resources around points of the front, within what each of them costs.
        resources: what the allocations should cost little of, besides the objective; names of the space. None: the
            budget alone counts.
        finals: sequences of the panel on which the points of the front are evaluated again, with resources.
    """

    batch: int = 1
    polish: int = 0
    resources: tuple[str, ...] = ()
    finals: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "resources", resource_names(self.resources))
        CoefficientOptions.__post_init__(self)  # not super(): a class with slots is another one than its body knows
        for option in ("batch", "finals"):
            positive_integer(option, getattr(self, option))
        if type(self.polish) is not int or self.polish < 0:
            raise ConfigError(f"searcher.polish: {self.polish!r} is not allowed; give 0 or a positive integer")


class Bayesian(CoefficientSearcher):
    """Bayesian optimisation of a few coefficients that stand for all sites, by one of Optuna's samplers.

    A sampler of hundreds of levels learns nothing in a few hundred trials. So it searches the coefficients of
    smooth curves over the depth, one for each kind of site (`basis`), and every coefficient vector becomes an
    allocation that meets the budget exactly. Zero coefficients, which are tried first, are the uniform
    allocation or the Fisher optimum; the uniform allocation is evaluated in any case. Vectors that lead to an
    allocation that is known are told its value and cost nothing. Optuna's study lives in memory: the journal is
    the record, and a resumed run tells a fresh study the same values again.

    With `resources` it looks for the front of the objective and these, for which every resource has one coefficient
    more: a bound on it, from the most that it may cost within the budget to the least that it can (`tradeoff`). The
    first trials are zero coefficients at bounds all the way down. At the end the points of the front are evaluated
    again on `finals` sequences; `best` is the one with the least objective of those that are left.
    """

    options_type: ClassVar[type[Options]] = BayesianOptions
    options: BayesianOptions

    def __init__(self, problem: Problem, options: Options, rng: np.random.Generator) -> None:
        super().__init__(problem, options, rng)
        self._tradeoff = Tradeoff(problem, self.options.resources)

    @abstractmethod
    def sampler(self, seed: int) -> BaseSampler:
        """A fresh sampler."""

    @property
    def front_resources(self) -> tuple[str, ...]:
        """Those of the options."""
        return self.options.resources

    @property
    def evaluations(self) -> int:
        """In forwards of one sequence at most, a backward counted as two."""
        polish = self.options.polish * min(self.options.sequences, self.problem.sequences)
        finals = MOST_POINTS * min(self.options.finals, self.problem.sequences) if self.options.resources else 0
        return super().evaluations + polish + finals

    def steps(self) -> Steps:
        """One request a batch of trials, then one a batch of level switches, and one for the front."""
        sequences = draw_sequences(self.problem, self.options.sequences, self.rng)
        basis = depth_basis(self.problem.space, self.options.coefficients)
        propose = yield from self._propose(basis, sequences)
        descent = Descent(self.problem, self.options.resources) if self.options.resources else None
        yield from self._search(basis, propose, descent, sequences)
        yield from self._polish(descent, sequences)
        if descent is not None:
            self.front = yield from self._tradeoff.confirmed(self._means, MOST_POINTS, self.options.finals, self.rng)
        if self.front is None:
            return self._incumbent
        best = lowest(self.front)
        self.progress = Progress(self.progress.total, self.progress.total, best)
        return best

    def _search(
        self, basis: Basis, propose: Propose, descent: Descent | None, sequences: tuple[int, ...]
    ) -> Generator[Request, Any, None]:
        """Asks the sampler for trials and tells it what they are worth."""
        from sparsearch.search.sampling import Sampling

        count, resources = len(basis.names), self.options.resources
        sampler = self.sampler(int(self.rng.integers(2**32)))
        sampling = Sampling(sampler, self._ranges(basis), 1 + len(resources))
        for share in np.linspace(0, 1, STARTS if resources else 1):
            sampling.first(np.append(np.zeros(count), np.full(len(resources), share)))
        start = uniform(self.problem.space, self.problem.limits)
        done = stale = 0
        while done < self.options.trials and stale < PATIENCE:
            size = min(self.options.batch, self.options.trials - done)
            trials = sampling.ask(size)
            proposals = [
                propose(point[:count], descent.limits(point[count:]) if descent else self.problem.limits)
                for _, point in trials
            ]
            fresh = yield from self._evaluate([start, *proposals], sequences)
            stale = 0 if fresh else stale + size
            spent = self._tradeoff.spent(proposals).tolist()
            for (trial, _), proposal, costs in zip(trials, proposals, spent, strict=True):
                sampling.tell(trial, [squeezed(self._means[proposal], self._means[start]), *costs])
            done += size
            self._note(done)

    def _ranges(self, basis: Basis) -> dict[str, tuple[float, float]]:
        """Of the coefficients, then of the share of the way down of each resource."""
        spans = self._spans(basis).tolist()
        curves = {name: (-span, span) for name, span in zip(basis.names, spans, strict=True)}
        return curves | {f"bound:{name}": (0.0, 1.0) for name in self.options.resources}

    def _polish(self, descent: Descent | None, sequences: tuple[int, ...]) -> Generator[Request, Any, None]:
        """Level switches around the best allocation or the front, always the latest, on the same sequences."""
        done = 0
        while done < self.options.polish:
            neighbours = self._neighbours(descent, min(self.options.batch, self.options.polish - done))
            if not neighbours:
                return
            yield from self._evaluate(neighbours, sequences)
            done += len(neighbours)
            self._note(self.options.trials + done)

    def _neighbours(self, descent: Descent | None, count: int) -> list[Allocation]:
        """At most `count` allocations not evaluated yet, 1 to 3 level switches away from the best ones."""
        centers = [(self._incumbent, self.problem.limits)]
        front = self._tradeoff.front(self._means) if descent else None
        if descent and front:
            centers = [(center, descent.below(center)) for center in front.allocations]
        found: dict[Allocation, None] = {}
        failures = 0
        while len(found) < count and failures < ATTEMPTS:
            center, limits = centers[self.rng.integers(len(centers))] if front else centers[0]
            levels = center.array
            for _ in range(self.rng.integers(1, MOST_SWITCHES, endpoint=True)):
                levels = level_switch(self.problem.space, limits, levels, self.rng)
            mutant = Allocation.of(levels)
            known = mutant in self._means or mutant in found
            failures = failures + 1 if known else 0
            if not known:
                found[mutant] = None
        return list(found)

    def _note(self, done: int) -> None:
        self.progress = Progress(done, self.options.trials + self.options.polish, self._incumbent)


def squeezed(mean: float, start: float) -> float:
    """`arcsinh(mean / |start|)`: large values count less, so that ruined models do not flatten a sampler's surface."""
    scale = abs(start) if np.isfinite(start) and start != 0 else 1.0
    return float(np.arcsinh(mean / scale))
