"""Bayesian optimisation over a low-dimensional basis: what `tpe` and `gp` share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.search.base import Evaluate, Options, Problem, Progress, Request, Searcher, Sense, Steps
from sparsearch.search.basis import Basis, curve_allocation, depth_basis, scaled_allocation
from sparsearch.search.checks import positive_integer
from sparsearch.search.moves import level_switch
from sparsearch.search.scores import draw_sequences
from sparsearch.search.surrogate import fisher_costs
from sparsearch.search.tradeoff import Descent, Tradeoff, lowest, resource_names
from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.repair import uniform
from sparsearch.space.space import FloatArray

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SPANS = {"curve": 0.4, "fisher": 1.0}
"""Bases, and the default of `span` in each: in sparsity, and in natural logarithms of factors."""

PATIENCE = 50
"""Trials in a row that lead to known allocations only, after which the basis holds nothing new."""

ATTEMPTS = 100
"""Mutants in a row that are known already, after which the polish has no new neighbours."""

MOST_SWITCHES = 3

STARTS = 8
"""First trials of a search for a front: no coefficients, from the budget down to the least of the resources."""

MOST_POINTS = 32
"""Of a front that are evaluated again at the end."""

Propose = Callable[[FloatArray, Limits], Allocation]


@dataclass(frozen=True, slots=True)
class BayesianOptions(Options):
    """Options of `tpe` and `gp`.

    Attributes:
        trials: coefficient vectors to try, the zero vector first.
        sequences: of the panel, the same ones for every allocation.
        basis: `curve`: sparsities off the uniform one. `fisher`: factors on the Fisher costs of the levels, which
            one forward and backward of the sequences at the dense model give.
        coefficients: of the curve of each kind of site over the depth; 1 is a shift alone.
        span: bound on a coefficient, divided by its degree plus 1; left out: 0.4 in sparsity for `curve`, 1 in
            natural logarithms for `fisher`.
        batch: trials that are evaluated together. The sampler takes those that are pending into account, but
            learns less from each.
        polish: evaluations of level switches around the best allocation afterwards, each site on its own; with
            resources around points of the front, within what each of them costs.
        resources: what the allocations should cost little of, besides the objective; names of the space. None: the
            budget alone counts.
        finals: sequences of the panel on which the points of the front are evaluated again, with resources.
    """

    trials: int = 200
    sequences: int = 32
    basis: str = "fisher"
    coefficients: int = 3
    span: float | None = None
    batch: int = 1
    polish: int = 0
    resources: tuple[str, ...] = ()
    finals: int = 64

    def __post_init__(self) -> None:
        object.__setattr__(self, "resources", resource_names(self.resources))
        for option in ("trials", "sequences", "coefficients", "batch", "finals"):
            positive_integer(option, getattr(self, option))
        if type(self.polish) is not int or self.polish < 0:
            raise ConfigError(f"searcher.polish: {self.polish!r} is not allowed; give 0 or a positive integer")
        check_basis(self.basis, self.span)


def check_basis(basis: object, span: object) -> None:
    """The options `basis` and `span` of the searchers that have them."""
    if not isinstance(basis, str) or basis not in SPANS:
        raise ConfigError(f"searcher.basis: {basis!r} is no basis; {did_you_mean(str(basis), SPANS)}")
    if span is not None and not (isinstance(span, int | float) and not isinstance(span, bool) and 0 < span < np.inf):
        raise ConfigError(f"searcher.span: {span!r} is not allowed; give a positive number")


def proposer(problem: Problem, name: str, basis: Basis, sequences: tuple[int, ...]) -> Generator[Request, Any, Propose]:
    """How coefficients of `basis` become an allocation within limits; `name` is a key of `SPANS`."""
    space = problem.space
    if name == "curve":
        return lambda coefficients, limits: curve_allocation(space, limits, basis, coefficients)
    costs = fisher_costs((yield Sense(space.dense(), sequences, gradient=False, draws=1)))
    return lambda coefficients, limits: scaled_allocation(space, limits, basis, costs, coefficients)


def coefficient_bounds(name: str, span: float | None, basis: Basis) -> FloatArray:
    """Largest size of each coefficient, `[dimensions]`: the span by the degree plus 1."""
    return (span or SPANS[name]) / (1 + np.array(basis.degrees, dtype=np.float64))


class Bayesian(Searcher):
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
    insensitive: ClassVar[str] = "basis: curve"
    options: BayesianOptions

    def __init__(self, problem: Problem, options: Options, rng: np.random.Generator) -> None:
        super().__init__(problem, options, rng)
        self._means: dict[Allocation, float] = {}
        self._tradeoff = Tradeoff(problem, self.options.resources)

    @classmethod
    def wants_sensitivities(cls, options: Options) -> bool:
        """For the basis `fisher`."""
        return isinstance(options, BayesianOptions) and options.basis == "fisher"

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
        allocations = 1 + self.options.trials + self.options.polish
        sensed = 3 if self.options.basis == "fisher" else 0
        finals = MOST_POINTS * min(self.options.finals, self.problem.sequences) if self.options.resources else 0
        return (allocations + sensed) * self._count + finals

    @property
    def _count(self) -> int:
        return min(self.options.sequences, self.problem.sequences)

    def steps(self) -> Steps:
        """One request a batch of trials, then one a batch of level switches, and one for the front."""
        sequences = draw_sequences(self.problem, self.options.sequences, self.rng)
        basis = depth_basis(self.problem.space, self.options.coefficients)
        propose = yield from proposer(self.problem, self.options.basis, basis, sequences)
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
        bounds = coefficient_bounds(self.options.basis, self.options.span, basis).tolist()
        curves = {name: (-bound, bound) for name, bound in zip(basis.names, bounds, strict=True)}
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

    def _evaluate(
        self, allocations: Iterable[Allocation], sequences: tuple[int, ...]
    ) -> Generator[Request, FloatArray, bool]:
        """Learns the means of `allocations`; whether any was new."""
        fresh = tuple(allocation for allocation in dict.fromkeys(allocations) if allocation not in self._means)
        if fresh:
            means = (yield Evaluate(fresh, sequences)).mean(axis=1)
            self._means |= zip(fresh, np.where(np.isfinite(means), means, np.inf).tolist(), strict=True)
        return bool(fresh)

    @property
    def _incumbent(self) -> Allocation:
        """The best mean so far, the earlier one of equal ones."""
        return min(self._means, key=self._means.__getitem__)

    def _note(self, done: int) -> None:
        self.progress = Progress(done, self.options.trials + self.options.polish, self._incumbent)


def squeezed(mean: float, start: float) -> float:
    """`arcsinh(mean / |start|)`: large values count less, so that ruined models do not flatten a sampler's surface."""
    scale = abs(start) if np.isfinite(start) and start != 0 else 1.0
    return float(np.arcsinh(mean / scale))
