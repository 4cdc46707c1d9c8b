"""The PQ index of sparsity-informed adaptive pruning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sparsearch.errors import ConfigError
from sparsearch.search.allocators.statistic import StatisticAllocator
from sparsearch.search.base import Options
from sparsearch.search.checks import number
from sparsearch.search.wishes import nearest, scaled
from sparsearch.space.allocation import Allocation


@dataclass(frozen=True, slots=True)
class PQIndexOptions(Options):
    """Options of `pq_index`.

    Attributes:
        p: the smaller norm; `q` the larger one.
        eta: how much the removed weights may hold.
        most: beta, the largest sparsity of a site, as far as the budget allows.
    """

    p: float = 0.5
    q: float = 1.0
    eta: float = 0.0
    most: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < number("p", self.p, 0) < number("q", self.q, 0):
            raise ConfigError(f"searcher.p: {self.p!r} and q: {self.q!r} are not allowed; give 0 < p < q")
        number("eta", self.eta, 0)
        number("most", self.most, 0, 1)


class PQIndex(StatisticAllocator):
    """Sites lose in proportion to what the PQ index says they can spare. Needs the weights alone.

    Diao et al., "Pruning Deep Neural Networks from a Sparsity Perspective" (ICLR 2023): with the PQ index
    `I = 1 - d^(1/q - 1/p) |w|_p / |w|_q` of d weights at least `m = d (1 + eta)^(-q/(q-p)) (1 - I)^(qp/(q-p))` must
    stay; SAP removes `min(gamma (1 - m/d), beta)`. Deviations: one round in place of rounds with retraining, and
    gamma is what meets the budget.
    """

    name: ClassVar[str] = "pq_index"
    options_type: ClassVar[type[Options]] = PQIndexOptions
    options: PQIndexOptions
    statistic: ClassVar[str] = "pq_retained"

    def parameters(self) -> dict[str, float]:
        """Norms and eta."""
        return {"p": float(self.options.p), "q": float(self.options.q), "eta": float(self.options.eta)}

    def allocate(self) -> Allocation:
        """The levels nearest to the wishes."""
        space, limits = self.problem.space, self.problem.limits
        return nearest(space, limits, scaled(space, limits, (1 - self.measured).clip(0), self.options.most))
