"""What can predict how good an allocation is: sums over sites, quadratic forms, the objective on a few sequences."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.evaluation.sensitivity import Sensitivity
from sparsearch.evaluation.statistics import measure
from sparsearch.search.base import Evaluate
from sparsearch.search.curves import measured_changes, monotone_curves, probed_levels
from sparsearch.search.scores import Scores
from sparsearch.search.surrogate import Surrogate, fisher_costs
from sparsearch.space import Allocation, SearchSpace
from sparsearch.space.space import FloatArray, IntArray
from sparsearch.space.statistics import STATISTICS

REMOVED: Mapping[str, Mapping[str, float]] = {"magnitude": {}, "lamp": {}, "fluctuation": {}, "taylor": {}}
"""Statistics that say what each level removes, with their parameters."""

IMPORTANCE: Mapping[str, Mapping[str, float]] = {
    "block_influence": {},
    "angular_distance": {},
    "outlier_ratio": {"multiple": 5.0},
    "relevance": {},
    "zeroth_order": {"eps": 1e-3},
}
"""Statistics that say how much a site matters: times the weights that are gone."""

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
        errors: of the layers, `[sites, max levels]`, from the supernet.
        level: the uniform allocation.
        sequences: of the panel that statistics and single evaluations are taken on.
        sensed: of the panel that gradients are taken on.
    """

    levels: IntArray
    evaluator: Evaluator
    errors: FloatArray
    level: Allocation
    sequences: tuple[int, ...]
    sensed: tuple[int, ...]

    @property
    def space(self) -> SearchSpace:
        """Sites and levels."""
        return self.evaluator.switcher.supernet.space

    def summed(self, table: FloatArray) -> FloatArray:
        """`sum_u table[u, level_u]` of every allocation."""
        return table[np.arange(len(self.space)), self.levels].sum(axis=1)

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
    """What the supernet knows, and how far from uniform an allocation lies, which knows nothing of the model."""
    space = sheet.space
    sizes = np.array([site.size for site in space.sites], dtype=np.float64)
    sparsities = np.nan_to_num(space.sparsities)
    middle = sparsities[np.arange(len(space)), sheet.level.array]
    yield Predictor("distance from uniform", sheet.summed(sizes[:, None] * (sparsities - middle[:, None]) ** 2))
    yield Predictor("layer error, sum", sheet.summed(np.nan_to_num(sheet.errors)))
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
    """Statistics of the dense model, added up."""
    space = sheet.space
    sizes = np.array([site.size for site in space.sites], dtype=np.float64)
    gone = sizes[:, None] * np.nan_to_num(space.sparsities)
    for name, parameters in {**REMOVED, **IMPORTANCE}.items():
        passes = STATISTICS[name].passes(space)
        sequences = sheet.sequences if passes else ()
        found = measure(sheet.evaluator, name, sequences, parameters)
        table = found if STATISTICS[name].per_level else gone * found[:, None]
        yield Predictor(f"{name}, sum", sheet.summed(table), sheet.tokens(passes * len(sequences)))


def of_gradients(sheet: Sheet) -> Iterator[Predictor]:
    """Fisher at the dense model without and with pairs of sites; first and second order at the uniform allocation."""
    count, sites = len(sheet.sensed), np.arange(len(sheet.space))
    sensitivity = Sensitivity(sheet.evaluator)
    found = sensitivity.at(sheet.space.dense(), sheet.sensed, gradient=False, draws=1)
    assert found.features is not None
    tokens = sheet.tokens(3 * count)
    yield Predictor("Fisher, sum", sheet.summed(fisher_costs(found)), tokens)
    moves = [found.features[:, sites, row].astype(np.float64).sum(axis=1) for row in sheet.levels]
    yield Predictor("Fisher with pairs", 0.5 * np.square(moves).mean(axis=1), tokens)
    surrogate = Surrogate(1.0)
    surrogate.add(sheet.level, sensitivity.at(sheet.level, sheet.sensed, gradient=True, draws=1))
    changes = surrogate.changes(sheet.level).mean
    yield Predictor("gradient and Gauss-Newton at uniform, sum", sheet.summed(changes), sheet.tokens(5 * count))


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


def of_sequences(sheet: Sheet) -> Iterator[Predictor]:
    """Every objective of the evaluator on 1, 4, 16, ... sequences."""
    allocations = [Allocation.of(row) for row in sheet.levels]
    objectives = sheet.evaluator.objectives
    tables = {each.name: np.empty((len(allocations), len(sheet.sequences))) for each in objectives}
    for evaluation in sheet.evaluator.evaluate(allocations, sheet.sequences):
        for name, values in evaluation.values.items():
            tables[name][evaluation.index] = values
    for objective in objectives:
        for count in powers(4, len(sheet.sequences)):
            means = tables[objective.name][:, :count].mean(axis=1)
            yield Predictor(
                f"{objective.title}, {count} sequence{'s' * (count > 1)}",
                means,
                each=sheet.tokens(count * objective.passes),
            )


def powers(base: int, most: int) -> Sequence[int]:
    """1, `base`, its square and so on up to `most`."""
    found = [1]
    while found[-1] * base <= most:
        found.append(found[-1] * base)
    return found
