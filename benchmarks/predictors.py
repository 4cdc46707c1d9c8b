"""What can predict how good an allocation is: sums over sites, quadratic forms, the objective on a few sequences."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.evaluation.objectives.trace import GradientTrace
from sparsearch.evaluation.sensitivity import Sensitivity
from sparsearch.evaluation.statistics import measure
from sparsearch.search import ALLOCATORS, Evaluate, Measure, Problem, make_searcher
from sparsearch.search.allocators.statistic import StatisticAllocator
from sparsearch.search.curves import measured_changes, monotone_curves, probed_levels
from sparsearch.search.scores import Scores
from sparsearch.search.surrogate import Surrogate, fisher_costs
from sparsearch.space import Allocation, SearchSpace
from sparsearch.space.sensitivities import Sensitivities
from sparsearch.space.space import FloatArray, IntArray, summed
from sparsearch.space.statistics import STATISTICS

LESS = ("median_score", "tail_exponent", "z_outliers")
"""Statistics of which the sites that matter have little; of all others they have much."""

CURVE_LEVELS = 4


@dataclass(frozen=True, eq=False)
class Predictor:
    """A quantity of every allocation; smaller is to mean better.

    Attributes:
        values: `[allocations]`.
        once: forward-token equivalents that it takes whatever the number of allocations.
        each: what every allocation takes besides.
    """

    name: str
    values: FloatArray
    once: float = 0.0
    each: float = 0.0


@dataclass(frozen=True, eq=False)
class Sheet:
    """The allocations, and what the predictors look at.

    Attributes:
        levels: `[allocations, sites]`.
        evaluator: on the search panel; KL is its first objective.
        problem: what allocators see.
        centres: allocations by name that expansions are made at; the uniform one comes first.
        sequences: of the panel that statistics and single evaluations are taken on.
        sensed: of the panel that gradients are taken on.
    """

    levels: IntArray
    evaluator: Evaluator
    problem: Problem
    centres: Mapping[str, Allocation]
    sequences: tuple[int, ...]
    sensed: tuple[int, ...]

    @property
    def space(self) -> SearchSpace:
        """Sites and levels."""
        return self.problem.space

    @property
    def gone(self) -> FloatArray:
        """Weights that each level takes away, `[sites, max levels]`."""
        sizes = np.array([site.size for site in self.space.sites], dtype=np.float64)
        return sizes[:, None] * np.nan_to_num(self.space.sparsities)

    def summed(self, table: FloatArray) -> FloatArray:
        """`sum_u table[u, level_u]` of every allocation."""
        return summed(table, self.levels)

    def tokens(self, forwards: int) -> float:
        """Tokens of so many forwards of one sequence."""
        return float(forwards * self.evaluator.panel.length)


def predictors(sheet: Sheet) -> Iterator[Predictor]:
    """All of them, the cheap ones first."""
    yield from of_weights(sheet)
    yield from of_statistics(sheet)
    yield from of_gradients(sheet)
    yield one_at_a_time(sheet)
    yield from of_sequences(sheet)


def of_weights(sheet: Sheet) -> Iterator[Predictor]:
    """What shapes, depth and the supernet say, and how far from uniform an allocation lies: no pass of the model."""
    space, level = sheet.space, next(iter(sheet.centres.values()))
    offsets = sheet.gone - sheet.gone[np.arange(len(space)), level.array][:, None]
    shapes = np.array([site.shape for site in space.sites], dtype=np.float64)
    blocks = np.array([site.block for site in space.sites], dtype=np.float64)
    yield Predictor("distance from uniform", sheet.summed(offsets**2 / shapes.prod(axis=1)[:, None]))
    densities = shapes.sum(axis=1) / shapes.prod(axis=1)
    yield Predictor("score of erk, erdos_renyi", sheet.summed(sheet.gone * densities[:, None]))
    yield Predictor("score of arithmetic", sheet.summed(-sheet.gone * blocks[:, None]))
    assert sheet.problem.errors is not None
    yield Predictor("score of layer_error", sheet.summed(np.nan_to_num(sheet.problem.errors)))
    change, own = weight_changes(sheet)
    yield Predictor("weight error, sum", sheet.summed(change))
    yield Predictor("weight error, sum of relative", sheet.summed(change / own[:, None]))


def weight_changes(sheet: Sheet) -> tuple[FloatArray, FloatArray]:
    """`||W(level) - W||^2` `[sites, max levels]` and `||W||^2` `[sites]`."""
    switcher, space = sheet.evaluator.switcher, sheet.space
    change, own = np.zeros(space.valid.shape), np.zeros(len(space))
    for site, count in enumerate(space.counts):
        dense = switcher.dense(site).double()
        own[site] = float(dense.square().sum())
        for level in range(1, count):
            change[site, level] = float((switcher.variant(site, level).double() - dense).square().sum())
    return change, own


def of_statistics(sheet: Sheet) -> Iterator[Predictor]:
    """What allocators measure of the dense model, with their default options.

    Where it says what each level removes, its sum; else, as it says how much a site matters, the sum of that times the
    weights that are gone.
    """
    for request, names in requests(sheet.problem).items():
        statistic = STATISTICS[request.statistic]
        sequences = sheet.sequences if request.sequences else ()
        found = measure(sheet.evaluator, request.statistic, sequences, dict(request.parameters))
        sign = -1 if request.statistic in LESS else 1
        table = found if statistic.per_level else sign * sheet.gone * found[:, None]
        tokens = sheet.tokens(statistic.passes(sheet.space) * len(sequences))
        yield Predictor(f"score of {', '.join(names)}", sheet.summed(table), tokens)


def requests(problem: Problem) -> dict[Measure, list[str]]:
    """What allocators ask for, each with the names of those that do."""
    found: dict[Measure, list[str]] = {}
    for name in ALLOCATORS:
        allocator = make_searcher(name, {}, problem, 0)
        if isinstance(allocator, StatisticAllocator):
            request = next(allocator.steps())
            assert isinstance(request, Measure)
            found.setdefault(request, []).append(name)
    return found


def of_gradients(sheet: Sheet) -> Iterator[Predictor]:
    """Second-order expansions, without and with pairs of sites: Fisher at the dense model, then those at the centres.

    Without pairs those at the centres are the model that `quadratic` has after one look there.
    """
    sensitivity, count = Sensitivity(sheet.evaluator), len(sheet.sensed)
    dense = sensitivity.at(sheet.space.dense(), sheet.sensed, gradient=False, draws=1)
    yield Predictor("score of fisher", sheet.summed(fisher_costs(dense)), sheet.tokens(3 * count))
    yield Predictor("Fisher with pairs", joint(sheet, dense), sheet.tokens(3 * count))
    for name, centre in sheet.centres.items():
        found = sensitivity.at(centre, sheet.sensed, gradient=True, draws=1)
        surrogate = Surrogate(1.0)
        surrogate.add(centre, found)
        tokens = sheet.tokens(5 * count)
        yield Predictor(f"quadratic's model at {name}", sheet.summed(surrogate.changes(centre).mean), tokens)
        yield Predictor(f"quadratic's model at {name}, with pairs", joint(sheet, found), tokens)


def joint(sheet: Sheet, found: Sensitivities) -> FloatArray:
    """`sum_u g[u] + 0.5 mean_s (sum_u V[s, u])^2` of the move to every allocation, `[allocations]`."""
    assert found.features is not None
    sites = np.arange(len(sheet.space))
    moves = np.array([found.features[:, sites, row].astype(np.float64).sum(axis=1) for row in sheet.levels])
    slopes = 0.0 if found.gradient is None else sheet.summed(found.gradient.astype(np.float64).mean(axis=0))
    return slopes + 0.5 * np.square(moves).mean(axis=1)


def one_at_a_time(sheet: Sheet) -> Predictor:
    """KL of one pruned site, a few levels measured and the others interpolated, added up."""
    space = sheet.space
    levels = probed_levels(space, CURVE_LEVELS)
    steps = measured_changes(space, Scores(sheet.sequences), space.dense(), levels)
    table = monotone_curves(space, answered(steps, sheet.evaluator).mean(axis=0))
    tokens = sheet.tokens((1 + sum(map(len, levels))) * len(sheet.sequences))
    return Predictor("one-at-a-time KL, sum", sheet.summed(table), tokens)


def answered(steps: Generator[Evaluate, FloatArray, FloatArray], evaluator: Evaluator) -> Any:
    """What `steps` return when `evaluator` answers them."""
    try:
        request = next(steps)
        while True:
            request = steps.send(evaluator.values(request.allocations, request.sequences))
    except StopIteration as end:
        return end.value


class TraceTogether(GradientTrace):
    """The published form: one correlation a site, of the gradients of the mean loss over all text of a batch."""

    name: ClassVar[str] = "trace together"
    title: ClassVar[str] = "gradient-trace distance, text as one"

    def compare(self, student: Tensor, dense: Tensor, kept: Tensor) -> Tensor:
        """Float64 `[batch]`, all the same."""
        means = (each.double().mean(dim=0, keepdim=True) for each in (student, dense))
        return super().compare(*means, kept).expand(len(student))


def of_sequences(sheet: Sheet) -> Iterator[Predictor]:
    """Every objective of the evaluator on 1, 4, 16, ... sequences."""
    allocations = [Allocation.of(row) for row in sheet.levels]
    objectives, most = sheet.evaluator.objectives, len(sheet.sequences)
    tables = {each.name: np.empty((len(allocations), most)) for each in objectives}
    for evaluation in sheet.evaluator.evaluate(allocations, sheet.sequences):
        for name, values in evaluation.values.items():
            tables[name][evaluation.index] = values
    for objective in objectives:
        for count in [most] if isinstance(objective, TraceTogether) else powers(4, most):
            means = tables[objective.name][:, :count].mean(axis=1)
            title = f"{objective.title}, {count} sequence{'s' * (count > 1)}"
            yield Predictor(title, means, each=sheet.tokens(count * objective.passes))


def powers(base: int, most: int) -> Sequence[int]:
    """1, `base`, its square and so on up to `most`."""
    found = [1]
    while found[-1] * base <= most:
        found.append(found[-1] * base)
    return found
