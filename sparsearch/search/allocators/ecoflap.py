"""ECoFLaP: importance of blocks from zeroth-order gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsearch.errors import ConfigError
from sparsearch.search.allocators.statistic import StatisticAllocator, TextOptions
from sparsearch.search.base import Options
from sparsearch.search.checks import number
from sparsearch.search.wishes import kept_in_proportion, nearest
from sparsearch.space.allocation import Allocation
from sparsearch.space.repair import uniform_sparsity


@dataclass(frozen=True, slots=True)
class ECoFLaPOptions(TextOptions):
    """Options of `ecoflap`.

    Attributes:
        eps: size of the step on every weight.
        above: how far above the uniform sparsity a block may get.
    """

    eps: float = 1e-3
    above: float = 0.1

    def __post_init__(self) -> None:
        TextOptions.__post_init__(self)
        if number("eps", self.eps, 0) == 0:
            raise ConfigError("searcher.eps: 0 is not allowed; give a step above 0, such as 0.001")
        number("above", self.above, 0, 1)


class ECoFLaP(StatisticAllocator):
    """Blocks keep in proportion to how much the loss moves with their weights. Forwards alone, many of them.

    Sung et al., "ECoFLaP" (ICLR 2024): the score of a block is `|L(W + eps z) - L(W - eps z)| / (2 eps)` with one
    Gaussian z on all of its weights, summed over sequences; densities are in proportion to the scores, no block
    is sparser than `S + 0.1`. Deviation: the loss is the cross-entropy of the text (without a head a random
    projection of the last hidden states) whatever the job's objective, which has no slope at the dense model.
    Cost: a forward, and for each block two more from there to the end.
    """

    name: ClassVar[str] = "ecoflap"
    options_type: ClassVar[type[Options]] = ECoFLaPOptions
    options: ECoFLaPOptions
    statistic: ClassVar[str] = "zeroth_order"

    def parameters(self) -> dict[str, float]:
        """The step."""
        return {"eps": float(self.options.eps)}

    def allocate(self) -> Allocation:
        """The levels nearest to the wishes."""
        space, limits = self.problem.space, self.problem.limits
        most = uniform_sparsity(space, limits) + self.options.above
        return nearest(space, limits, kept_in_proportion(space, limits, self.measured, most))
