"""Exact multiple-choice knapsack over error curves of single sites."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sparsearch.search.allocators.fisher import fisher_start
from sparsearch.search.base import Options, Progress, Request, Searcher, Steps
from sparsearch.search.checks import one_of, positive_integer
from sparsearch.search.curves import measured_changes, monotone_curves, probed_levels
from sparsearch.search.scores import Scores, draw_sequences
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import cheapest

CURVES = ("fisher", "one_at_a_time", "layer_error")


@dataclass(frozen=True, slots=True)
class KnapsackOptions(Options):
    """Options of `knapsack`.

    Attributes:
        curves: where the costs of levels come from: `fisher`, `one_at_a_time` or `layer_error`.
        levels: that `one_at_a_time` measures of each site, beside the dense one; the others are interpolated.
        sequences: of the panel that the curves are measured on.
    """

    curves: str = "fisher"
    levels: int = 4
    sequences: int = 16

    def __post_init__(self) -> None:
        one_of("curves", self.curves, CURVES)
        positive_integer("levels", self.levels)
        positive_integer("sequences", self.sequences)


class Knapsack(Searcher):
    """Least sum of what each site's level costs alone, solved exactly for any number of bounds.

    Minimises `sum_u d[u, level_u]` within the limits (`space.repair.cheapest`). The curves d are

    - `fisher`: `0.5 * mean_s <score gradient of sequence s, W(level) - W>^2` at the dense model, from one forward
      and backward: 3 forwards a sequence. What the searcher `fisher` minimises.
    - `one_at_a_time`: the mean change of the objective when only that site is pruned, at `levels` levels evenly
      over its grid; in between by monotone interpolation (`curves.monotone_curves`). All of them are one request:
      `sites * levels` forwards a sequence, of which prefix reuse saves about half.
    - `layer_error`: the relative output errors of the layers from the supernet: nothing to pay. What the allocator
      `layer_error` minimises.

    One-at-a-time costs with an exact programme are what Puzzle does with blocks (Bercovich et al., "Puzzle:
    Distillation-Based NAS for Inference-Optimized LLMs", 2024), with scores of all alternatives and an integer
    programme; here a few levels are measured and the knapsack is solved by labels (`space.knapsack`). Interactions
    between sites are left out, which underestimates the loss at high sparsity. The dense model with one site pruned
    mostly lies outside the budget: evaluations serve the curves, they are no candidates.
    """

    name: ClassVar[str] = "knapsack"
    options_type: ClassVar[type[Options]] = KnapsackOptions
    insensitive: ClassVar[str] = "curves: one_at_a_time"
    options: KnapsackOptions

    @classmethod
    def wants_errors(cls, options: Options) -> bool:
        """For the curves of that name."""
        return isinstance(options, KnapsackOptions) and options.curves == "layer_error"

    @classmethod
    def wants_sensitivities(cls, options: Options) -> bool:
        """For the curves `fisher`."""
        return isinstance(options, KnapsackOptions) and options.curves == "fisher"

    @property
    def evaluations(self) -> int:
        """In forwards, a backward counted as two."""
        if self.options.curves == "layer_error":
            return 0
        count = min(self.options.sequences, self.problem.sequences)
        if self.options.curves == "fisher":
            return 3 * count
        return (1 + sum(map(len, probed_levels(self.problem.space, self.options.levels)))) * count

    def steps(self) -> Steps:
        """One request, none for `layer_error`."""
        if self.options.curves == "layer_error":
            found = self._from_layer_errors()
        else:
            sequences = draw_sequences(self.problem, self.options.sequences, self.rng)
            fisher = self.options.curves == "fisher"
            found = yield from fisher_start(self, sequences) if fisher else self._one_at_a_time(sequences)
        self.progress = Progress(1, 1, found)
        return found

    def _from_layer_errors(self) -> Allocation:
        assert self.problem.errors is not None, "wants_errors was checked"
        return cheapest(self.problem.space, self.problem.limits, np.nan_to_num(self.problem.errors))

    def _one_at_a_time(self, sequences: tuple[int, ...]) -> Generator[Request, Any, Allocation]:
        space = self.problem.space
        levels = probed_levels(space, self.options.levels)
        changes = yield from measured_changes(space, Scores(sequences), space.dense(), levels)
        return cheapest(space, self.problem.limits, monotone_curves(space, changes.mean(axis=0)))
