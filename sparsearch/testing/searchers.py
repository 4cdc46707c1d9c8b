"""The conformance suite that every searcher must pass, plug-ins included.

    from sparsearch.testing.searchers import SearcherConformance

    class TestMine(SearcherConformance):
        def make(self, problem, seed):
            return Mine(problem, MineOptions(rounds=5), sparsearch.seeds.spawn(seed, "mine"))

`make` should give it a small number of evaluations: the whole suite drives it some dozen times to its end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar

import numpy as np
import pytest

from sparsearch.errors import InfeasibleBudgetError
from sparsearch.search.base import Answer, Evaluate, Measure, Problem, Progress, Rebuild, Request, Searcher
from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Budget
from sparsearch.space.repair import repair, uniform
from sparsearch.space.statistics import STATISTICS
from sparsearch.testing.problems import SyntheticProblem, quadratic_problem

MOST_REQUESTS = 10_000
ONE_SITE = {"mlp.up_proj": (16, 32)}

PROBLEMS: Mapping[str, Callable[[], SyntheticProblem]] = {
    "usual": partial(quadratic_problem, noise=0.3),
    "interaction": partial(quadratic_problem, interaction=0.5),
    "one_site": partial(quadratic_problem, block=ONE_SITE, blocks=1),
    "two_equal_sites": partial(quadratic_problem, block=ONE_SITE),
    "one_level": partial(quadratic_problem, Budget(params="1x"), levels=()),
    "one_site_one_level": partial(quadratic_problem, Budget(params="1x"), block=ONE_SITE, blocks=1, levels=()),
    "dense_fits": partial(quadratic_problem, Budget(params="1x")),
    "only_sparsest_fits": partial(quadratic_problem, Budget(sparsity=0.75), levels=("2:4", "1:4")),
    "one_sequence": partial(quadratic_problem, sequences=1),
    "n_of_m": partial(quadratic_problem, Budget(sparsity=0.55), levels=("3:4", "2:4", "1:4", 0.5)),
    "several_bounds": partial(
        quadratic_problem, Budget(sparsity=0.5, bytes="0.58x", flops="0.6x"), levels=(0.3, 0.5, 0.6, 0.8)
    ),
}
"""What the suite runs on; each entry makes a fresh problem."""


@dataclass
class Run:
    """A searcher's whole run: what it asked, what it was told, what it stood by, where it ended."""

    requests: list[Request] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    progress: list[Progress] = field(default_factory=list)
    best: Allocation | None = None

    @property
    def allocations(self) -> list[Allocation]:
        """Every allocation that was evaluated, the final one, and the incumbents."""
        evaluated = (request for request in self.requests if isinstance(request, Evaluate))
        return [allocation for request in evaluated for allocation in request.allocations] + self.stood_by

    @property
    def stood_by(self) -> list[Allocation]:
        """The incumbents and the final allocation."""
        incumbents = (progress.incumbent for progress in self.progress)
        return [allocation for allocation in [*incumbents, self.best] if allocation is not None]


def drive(searcher: Searcher, synthetic: SyntheticProblem) -> Run:
    """Answers `searcher` until it is done.

    Raises:
        AssertionError: it asks more than `MOST_REQUESTS` times.
    """
    run = Run(progress=[searcher.progress])
    while (request := searcher.ask()) is not None:
        assert len(run.requests) < MOST_REQUESTS, f"{searcher.name} does not end"
        run.requests.append(request)
        run.answers.append(synthetic.answer(request))
        searcher.tell(run.answers[-1])
        run.progress.append(searcher.progress)
    run.best = searcher.best
    return run


def disturb_global_randomness(seed: int) -> None:
    """Seeds the global generators, which no searcher may use."""
    random.seed(seed)
    np.random.seed(seed)


every_problem = pytest.mark.parametrize("synthetic", [make() for make in PROBLEMS.values()], ids=PROBLEMS)


class SearcherConformance:
    """Subclass it as `Test...` and give `make`; pytest runs the rest.

    Attributes:
        off_budget: whether it may evaluate allocations outside the budget, as measuring one site alone takes.
    """

    off_budget: ClassVar[bool] = False

    def make(self, problem: Problem, seed: int) -> Searcher:
        """A fresh searcher. Every call with equal arguments must give one that behaves the same."""
        raise NotImplementedError("give the searcher to be tested")

    @every_problem
    def test_every_allocation_meets_the_budget(self, synthetic: SyntheticProblem) -> None:
        """What is evaluated, stood by or returned is in the space and within every bound.

        Sensitivities may be asked for anywhere in the space: at the dense model, for one. So may evaluations by
        a searcher whose suite says `off_budget`.
        """
        problem = synthetic.problem
        run = drive(self.make(problem, 0), synthetic)
        for allocation in run.stood_by if self.off_budget else run.allocations:
            problem.space.check(allocation)
            assert problem.limits.met(allocation)
        for request in run.requests:
            for allocation in () if isinstance(request, Measure) else request.allocations:
                problem.space.check(allocation)

    @every_problem
    def test_requests_are_sound(self, synthetic: SyntheticProblem) -> None:
        """A request names distinct allocations and distinct sequences of the panel, at least one of each.

        Statistics are known ones and need no allocation, and of the weights alone no sequence either. Supernets
        are asked for around allocations that meet the budget, as often as announced.
        """
        searcher = self.make(synthetic.problem, 0)
        requests = drive(searcher, synthetic).requests
        rebuilds = [request for request in requests if isinstance(request, Rebuild)]
        assert len(rebuilds) <= searcher.rebuilds
        assert all(synthetic.problem.limits.met(request.allocation) for request in rebuilds)
        for request in (request for request in requests if not isinstance(request, Rebuild)):
            if isinstance(request, Measure):
                assert request.passes == STATISTICS[request.statistic].passes(synthetic.problem.space)
                assert bool(request.sequences) == bool(request.passes)
            else:
                assert request.allocations and request.sequences
                assert len(set(request.allocations)) == len(request.allocations), "an allocation is asked twice"
            assert len(set(request.sequences)) == len(request.sequences), "a sequence is asked twice"
            assert all(type(index) is int for index in request.sequences), "numpy integers are not JSON-able"
            assert set(request.sequences) <= set(range(synthetic.problem.sequences))

    @every_problem
    def test_same_seed_same_run(self, synthetic: SyntheticProblem) -> None:
        """Neither global random state nor an earlier run changes anything."""
        disturb_global_randomness(0)
        first = drive(self.make(synthetic.problem, 3), synthetic)
        disturb_global_randomness(1)
        second = drive(self.make(synthetic.problem, 3), synthetic)
        assert (first.requests, first.best) == (second.requests, second.best)

    def test_resume_at_every_step(self) -> None:
        """A fresh searcher that is told the first k answers asks the same next request and ends the same."""
        synthetic = quadratic_problem(blocks=1, noise=0.3)
        whole = drive(self.make(synthetic.problem, 0), synthetic)
        for known in range(len(whole.requests) + 1):
            disturb_global_randomness(known)
            resumed = self.make(synthetic.problem, 0)
            for request, answer in zip(whole.requests[:known], whole.answers, strict=False):
                assert resumed.ask() == request
                resumed.tell(answer)
            rest = drive(resumed, synthetic)
            assert rest.requests == whole.requests[known:]
            assert rest.best == whole.best

    def test_ask_is_idempotent(self) -> None:
        """Asking again repeats the request, and the end stays the end."""
        synthetic = quadratic_problem(blocks=1)
        searcher, plain = self.make(synthetic.problem, 0), self.make(synthetic.problem, 0)
        while (request := searcher.ask()) is not None:
            assert searcher.ask() == request == plain.ask()
            searcher.tell(synthetic.answer(request))
            plain.tell(synthetic.answer(request))
        assert searcher.ask() is None and plain.ask() is None
        assert searcher.best == plain.best

    def test_wrong_answers_are_refused(self) -> None:
        """An answer of another shape raises and leaves the request pending; so does one that nobody asked for."""
        synthetic = quadratic_problem(blocks=1)
        searcher = self.make(synthetic.problem, 0)
        with pytest.raises(ValueError):
            searcher.tell(np.zeros((1, 1)))
        request = searcher.ask()
        if request is not None:
            with pytest.raises(ValueError):
                searcher.tell(np.zeros((1, 1, 1)))
            with pytest.raises(ValueError):
                _ = searcher.best
            assert searcher.ask() == request
        drive(searcher, synthetic)
        with pytest.raises(ValueError):
            searcher.tell(np.zeros((1, 1)))

    @every_problem
    def test_progress(self, synthetic: SyntheticProblem) -> None:
        """It counts up and never beyond its total."""
        progress = drive(self.make(synthetic.problem, 0), synthetic).progress
        done = [step.done for step in progress]
        assert done == sorted(done)
        assert all(0 <= step.done <= step.total for step in progress)

    @every_problem
    def test_evaluations_are_announced(self, synthetic: SyntheticProblem) -> None:
        """Where the searcher says how many forwards it will ask for, it keeps to that."""
        searcher = self.make(synthetic.problem, 0)
        announced = searcher.evaluations
        requests = drive(searcher, synthetic).requests
        spent = sum(request.forwards for request in requests)
        assert announced is None or spent <= announced

    def test_a_start_is_evaluated_or_stood_by(self) -> None:
        """A searcher that takes a start begins there; to one that does not it makes no difference."""
        synthetic = quadratic_problem(noise=0.3)
        problem = synthetic.problem
        rng = np.random.default_rng(0)
        start = repair(problem.space, problem.limits, rng.integers(0, problem.space.counts), rng)
        searcher = self.make(replace(problem, start=start), 0)
        run = drive(searcher, synthetic)
        if searcher.takes_start:
            assert start in run.allocations
        else:
            assert run.requests == drive(self.make(problem, 0), synthetic).requests

    def test_infeasible_budget_is_refused_before_any_work(self) -> None:
        """No searcher is ever made for a budget that cannot be met."""
        with pytest.raises(InfeasibleBudgetError, match=r"budget\.sparsity: .*0 to 0\.9"):
            quadratic_problem(Budget(sparsity=0.99))

    def test_no_worse_than_uniform(self) -> None:
        """On an additive objective without noise a searcher that evaluates ends at uniform or better."""
        synthetic = quadratic_problem(blocks=3)
        searcher = self.make(synthetic.problem, 0)
        run = drive(searcher, synthetic)
        assert run.best is not None
        if not all(isinstance(request, Measure) for request in run.requests):
            level = uniform(synthetic.problem.space, synthetic.problem.limits)
            assert synthetic.mean(run.best) <= synthetic.mean(level) * (1 + 1e-12)

    @pytest.mark.parametrize("value", [np.nan, np.inf], ids=["nan", "inf"])
    def test_broken_models_do_not_stop_the_search(self, value: float) -> None:
        """Values that are not finite (a model pruned to death) are ranked last and raise nothing."""
        synthetic = quadratic_problem(blocks=1)
        searcher = self.make(synthetic.problem, 0)
        while (request := searcher.ask()) is not None:
            if not isinstance(request, Evaluate):
                searcher.tell(synthetic.answer(request))
                continue
            values = synthetic.values(request.allocations, request.sequences)
            values[1:] = value
            searcher.tell(values)
        assert synthetic.problem.limits.met(searcher.best)
