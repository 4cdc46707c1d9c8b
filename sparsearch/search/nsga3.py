"""NSGA-III: a genetic search for the front, by ranks and reference directions."""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING, ClassVar

from sparsearch.search.genetic import Genetic

if TYPE_CHECKING:
    from pymoo.algorithms.base.genetic import GeneticAlgorithm


class NSGA3(Genetic):
    """Pareto front of the objective and resources, by NSGA-III.

    Deb & Jain, "An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point-Based Nondominated
    Sorting Approach, Part I" (2014), as pymoo has it. Survivors are the first fronts, of the last one those that
    fill the emptiest of the evenly spread reference directions (Das & Dennis, 1998). Good for two resources or more.
    Other than there, variables are integers that uniform crossover and one-level steps vary.
    """

    name: ClassVar[str] = "nsga3"

    def algorithm(self, objectives: int) -> GeneticAlgorithm:
        """NSGA-III on levels, with as many reference directions as the population has room for."""
        from pymoo.algorithms.moo.nsga3 import NSGA3 as PymooNSGA3
        from pymoo.util.ref_dirs import get_reference_directions

        from sparsearch.search.genetic_operators import parts

        population = self.options.population
        directions = get_reference_directions("das-dennis", objectives, n_partitions=partitions(objectives, population))
        return PymooNSGA3(directions, **parts(self.first_generation(), population, self.repaired, self.rng))


def partitions(objectives: int, most: int) -> int:
    """The finest division of each axis with at most `most` directions, `C(p + objectives - 1, p)`; 1 at least."""
    found = 1
    while comb(found + objectives, found + 1) <= most:
        found += 1
    return found
