"""NSGA-II: a genetic search for the front, by ranks and crowding distance."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sparsearch.search.genetic import Genetic

if TYPE_CHECKING:
    from pymoo.algorithms.base.genetic import GeneticAlgorithm


class NSGA2(Genetic):
    """Pareto front of the objective and resources, by NSGA-II.

    Deb et al., "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II" (2002), as pymoo has it. Survivors are
    the first fronts, of the last one those with the largest crowding distances. Good for one or two resources.
    Other than there, variables are integers that uniform crossover and one-level steps vary.
    """

    name: ClassVar[str] = "nsga2"

    def algorithm(self, objectives: int) -> GeneticAlgorithm:
        """NSGA-II on levels."""
        from pymoo.algorithms.moo.nsga2 import NSGA2 as PymooNSGA2

        from sparsearch.search.genetic_operators import parts

        return PymooNSGA2(**parts(self.first_generation(), self.options.population, self.repaired, self.rng))
