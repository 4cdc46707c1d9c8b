"""Rate-distortion optimal pruning: every level of every site measured alone, then the exact optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsearch.search.base import Options, Progress, Searcher, Steps
from sparsearch.search.checks import one_of, positive_integer
from sparsearch.search.curves import finite, measured_changes, probed_levels
from sparsearch.search.scores import Scores, draw_sequences
from sparsearch.space.repair import cheapest

DISTORTIONS = ("mean", "worst")


@dataclass(frozen=True, slots=True)
class RateDistortionOptions(Options):
    """Options of `rd`.

    Attributes:
        distortion: over the sequences, their `mean` or the `worst` one.
        sequences: of the panel that the curves are measured on.
    """

    distortion: str = "mean"
    sequences: int = 16

    def __post_init__(self) -> None:
        one_of("distortion", self.distortion, DISTORTIONS)
        positive_integer("sequences", self.sequences)


class RateDistortion(Searcher):
    """Rate-distortion curves of all sites, each pruned alone at every level, and the exact optimum of their sum.

    Xu et al., "Efficient Joint Optimization of Layer-Adaptive Weight Pruning in Deep Neural Networks" (ICCV 2023):
    the distortion of a site u at a level is what the model's output changes by when only u is pruned, over the
    calibration inputs on average or at worst,

        minimise sum_u d[u, level_u],  d[u, l] = mean_s or max_s (J_s(dense with u at l) - J_s(dense)),

    subject to the budget. With the mean it differs from `knapsack` with `curves: one_at_a_time` in that all levels
    are measured and taken as they are, neither interpolated nor made monotone. `levels - 1` forwards per site and
    sequence, in one request, of which prefix reuse saves about half: for a few dozen sites.

    Other than in the paper, the distortion is in the job's objective (theirs, the squared error of the output,
    where that is the objective), and the sum is minimised by an exact knapsack under any number of bounds in place
    of a dynamic programme over single weights, which a large model has too many of.
    """

    name: ClassVar[str] = "rd"
    options_type: ClassVar[type[Options]] = RateDistortionOptions
    options: RateDistortionOptions

    @property
    def evaluations(self) -> int:
        """Sequences that it evaluates, over all allocations."""
        levels = int(self.problem.space.counts.sum()) - len(self.problem.space)
        return (1 + levels) * min(self.options.sequences, self.problem.sequences)

    def steps(self) -> Steps:
        """One request."""
        space = self.problem.space
        scores = Scores(draw_sequences(self.problem, self.options.sequences, self.rng))
        levels = probed_levels(space, int(space.counts.max()))
        changes = yield from measured_changes(space, scores, space.dense(), levels)
        distortion = changes.mean(axis=0) if self.options.distortion == "mean" else changes.max(axis=0)
        found = cheapest(space, self.problem.limits, finite(distortion))
        self.progress = Progress(1, 1, found)
        return found
