"""Bayesian optimisation over a low-dimensional basis: what `tpe` and `gp` share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.search.base import Evaluate, Options, Problem, Progress, Request, Searcher, Sense, Steps
from sparsearch.search.basis import Basis, curve_allocation, depth_basis, scaled_allocation
from sparsearch.search.checks import positive_integer
from sparsearch.search.moves import level_switch
from sparsearch.search.surrogate import fisher_costs
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import uniform
from sparsearch.space.space import FloatArray

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

SPANS = {"curve": 0.4, "fisher": 1.0}
"""Bases, and the default of `span` in each: in sparsity, and in natural logarithms of factors."""

PATIENCE = 50
"""Trials in a row that lead to known allocations only, after which the basis holds nothing new."""

ATTEMPTS = 100
"""Mutants in a row that are known already, after which the polish has no new neighbours."""

MOST_SWITCHES = 3

Propose = Callable[[FloatArray], Allocation]


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
        polish: evaluations of level switches around the best allocation afterwards, each site on its own.
    """

    trials: int = 200
    sequences: int = 32
    basis: str = "fisher"
    coefficients: int = 3
    span: float | None = None
    batch: int = 1
    polish: int = 0

    def __post_init__(self) -> None:
        for option in ("trials", "sequences", "coefficients", "batch"):
            positive_integer(option, getattr(self, option))
        if type(self.polish) is not int or self.polish < 0:
            raise ConfigError(f"searcher.polish: {self.polish!r} is not allowed; give 0 or a positive integer")
        if not isinstance(self.basis, str) or self.basis not in SPANS:
            raise ConfigError(f"searcher.basis: {self.basis!r} is no basis; {did_you_mean(str(self.basis), SPANS)}")
        if self.span is not None and not (type(self.span) in (int, float) and 0 < self.span < np.inf):
            raise ConfigError(f"searcher.span: {self.span!r} is not allowed; give a positive number")


class Bayesian(Searcher):
    """Bayesian optimisation of a few coefficients that stand for all sites, by one of Optuna's samplers.

    A sampler of hundreds of levels learns nothing in a few hundred trials. So it searches the coefficients of
    smooth curves over the depth, one for each kind of site (`basis`), and every coefficient vector becomes an
    allocation that meets the budget exactly. Zero coefficients, which are tried first, are the uniform
    allocation or the Fisher optimum; the uniform allocation is evaluated in any case. Vectors that lead to an
    allocation that is known are told its value and cost nothing. Optuna's study lives in memory: the journal is
    the record, and a resumed run tells a fresh study the same values again.
    """

    options_type: ClassVar[type[Options]] = BayesianOptions
    options: BayesianOptions

    def __init__(self, problem: Problem, options: Options, rng: np.random.Generator) -> None:
        super().__init__(problem, options, rng)
        self._means: dict[Allocation, float] = {}

    @abstractmethod
    def sampler(self, seed: int) -> BaseSampler:
        """A fresh sampler."""

    @property
    def evaluations(self) -> int:
        """In forwards of one sequence at most, a backward counted as two."""
        allocations = 1 + self.options.trials + self.options.polish
        sensed = 3 if self.options.basis == "fisher" else 0
        return (allocations + sensed) * self._count

    @property
    def _count(self) -> int:
        return min(self.options.sequences, self.problem.sequences)

    def steps(self) -> Steps:
        """One request a batch of trials, then one a batch of level switches."""
        drawn = self.rng.choice(self.problem.sequences, size=self._count, replace=False)
        sequences = tuple(sorted(drawn.tolist()))
        basis = depth_basis(self.problem.space, self.options.coefficients)
        propose = yield from self._propose(basis, sequences)
        yield from self._search(basis, propose, sequences)
        yield from self._polish(sequences)
        return self._incumbent

    def _propose(self, basis: Basis, sequences: tuple[int, ...]) -> Generator[Request, Any, Propose]:
        """How coefficients become an allocation."""
        space, limits = self.problem.space, self.problem.limits
        if self.options.basis == "curve":
            return lambda coefficients: curve_allocation(space, limits, basis, coefficients)
        costs = fisher_costs((yield Sense(space.dense(), sequences, gradient=False, draws=1)))
        return lambda coefficients: scaled_allocation(space, limits, basis, costs, coefficients)

    def _search(self, basis: Basis, propose: Propose, sequences: tuple[int, ...]) -> Generator[Request, Any, None]:
        """Asks the sampler for trials and tells it what they are worth."""
        study, ranges = self._study(), self._ranges(basis)
        study.enqueue_trial(dict.fromkeys(basis.names, 0.0))
        start = uniform(self.problem.space, self.problem.limits)
        done = stale = 0
        while done < self.options.trials and stale < PATIENCE:
            size = min(self.options.batch, self.options.trials - done)
            with _quiet():
                trials = [study.ask(ranges) for _ in range(size)]
            proposals = [propose(np.array([trial.params[name] for name in basis.names])) for trial in trials]
            fresh = yield from self._evaluate([start, *proposals], sequences)
            stale = 0 if fresh else stale + size
            for trial, proposal in zip(trials, proposals, strict=True):
                self._tell(study, trial, self._means[proposal], self._means[start])
            done += size
            self._note(done)

    def _study(self) -> Study:
        """A study in memory."""
        import optuna

        with _quiet():
            return optuna.create_study(sampler=self.sampler(int(self.rng.integers(2**32))))

    def _ranges(self, basis: Basis) -> dict[str, BaseDistribution]:
        from optuna.distributions import FloatDistribution

        span = self.options.span or SPANS[self.options.basis]
        bounds = {name: span / (1 + degree) for name, degree in zip(basis.names, basis.degrees, strict=True)}
        return {name: FloatDistribution(-bound, bound) for name, bound in bounds.items()}

    @staticmethod
    def _tell(study: Study, trial: Trial, mean: float, start: float) -> None:
        """Tells `mean`, large values squeezed, so that ruined models do not flatten the surface of a Gaussian process.

        A model that is pruned to death gives no numbers: that trial has failed, and samplers leave it out.
        """
        from optuna.trial import TrialState

        if np.isfinite(mean):
            scale = abs(start) if np.isfinite(start) and start != 0 else 1.0
            study.tell(trial, float(np.arcsinh(mean / scale)))
        else:
            study.tell(trial, state=TrialState.FAIL)

    def _polish(self, sequences: tuple[int, ...]) -> Generator[Request, Any, None]:
        """Level switches around the best allocation, on the same sequences, the best one always the centre."""
        done = 0
        while done < self.options.polish:
            neighbours = self._neighbours(min(self.options.batch, self.options.polish - done))
            if not neighbours:
                return
            yield from self._evaluate(neighbours, sequences)
            done += len(neighbours)
            self._note(self.options.trials + done)

    def _neighbours(self, count: int) -> list[Allocation]:
        """At most `count` allocations not evaluated yet, 1 to 3 level switches away from the best one."""
        center = self._incumbent.array
        found: dict[Allocation, None] = {}
        failures = 0
        while len(found) < count and failures < ATTEMPTS:
            levels = center
            for _ in range(self.rng.integers(1, MOST_SWITCHES, endpoint=True)):
                levels = level_switch(self.problem.space, self.problem.limits, levels, self.rng)
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back Optuna's messages, which mean nothing to who runs a job; the level is as before afterwards."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)
