"""AlphaPruning: heavy tails of the weights' spectra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsearch.errors import ConfigError
from sparsearch.search.allocators.statistic import StatisticAllocator
from sparsearch.search.base import Options
from sparsearch.search.checks import number
from sparsearch.search.wishes import nearest, scaled, unit
from sparsearch.space.allocation import Allocation


@dataclass(frozen=True, slots=True)
class AlphaPruningOptions(Options):
    """Options of `alpha_pruning`.

    Attributes:
        tail: share of the eigenvalues that the exponent is estimated from.
        band: epsilon: sparsities run from `(1 - band) S` to `(1 + band) S` (the paper: 0.3 with Wanda, 0.2 with
            SparseGPT).
    """

    tail: float = 0.5
    band: float = 0.3

    def __post_init__(self) -> None:
        if number("tail", self.tail, 0, 1) == 0:
            raise ConfigError("searcher.tail: 0 is not allowed; give a share above 0, up to 1")
        number("band", self.band, 0, 1)


class AlphaPruning(StatisticAllocator):
    """Blocks with heavier-tailed spectra, hence better trained, keep more. Needs the weights alone.

    Lu et al., "AlphaPruning" (NeurIPS 2024): alpha is the power-law exponent of the eigenvalues of W^T W by the
    Hill estimator, the mean over a block's sites; sparsities are linear in it between `(1 - epsilon) S` and
    `(1 + epsilon) S`, then scaled to the budget. Deviation: the estimator looks at the upper half of the
    eigenvalues, where the paper begins the tail at the peak of their histogram. Cost: the eigenvalues of
    one square matrix a site, of its shorter side.
    """

    name: ClassVar[str] = "alpha_pruning"
    options_type: ClassVar[type[Options]] = AlphaPruningOptions
    options: AlphaPruningOptions
    statistic: ClassVar[str] = "tail_exponent"

    def parameters(self) -> dict[str, float]:
        """The tail."""
        return {"tail": float(self.options.tail)}

    def allocate(self) -> Allocation:
        """The levels nearest to the wishes."""
        space, limits, band = self.problem.space, self.problem.limits, self.options.band
        return nearest(space, limits, scaled(space, limits, 1 - band + 2 * band * unit(self.measured)))
