"""Level indices in the classes of pymoo; imported only where a genetic search runs, as pymoo takes time to load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from pymoo.core.evaluator import Evaluator
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.problems.static import StaticProblem

from sparsearch.space.space import FloatArray, IntArray, SearchSpace


class BudgetRepair(Repair):
    """Makes every individual meet the budget by a function from levels to levels, `[n, sites]`."""

    def __init__(self, repaired: Callable[[IntArray], IntArray]) -> None:
        super().__init__()
        self._repaired = repaired

    def _do(self, problem: Problem, X: IntArray, **kwargs: Any) -> IntArray:
        return self._repaired(X)


class LevelSteps(Mutation):
    """Moves one random site by one level, and each other one with a probability of 1 / sites."""

    def __init__(self, rng: np.random.Generator) -> None:
        super().__init__()
        self._rng = rng

    def _do(self, problem: Problem, X: IntArray, **kwargs: Any) -> IntArray:
        count, sites = X.shape
        moved = self._rng.random(X.shape) < 1 / sites
        moved[np.arange(count), self._rng.integers(sites, size=count)] = True
        steps = np.where(self._rng.random(X.shape) < 0.5, -1, 1)
        return np.clip(X + moved * steps, problem.xl, problem.xu).astype(np.int64)


def parts(
    first: IntArray, population: int, repaired: Callable[[IntArray], IntArray], rng: np.random.Generator
) -> dict[str, Any]:
    """The arguments that every genetic algorithm of pymoo takes; `first` is the first generation `[n, sites]`."""
    return {
        "pop_size": population,
        "sampling": first,
        "repair": BudgetRepair(repaired),
        "crossover": UniformCrossover(),
        "mutation": LevelSteps(rng),
        "termination": NoTermination(),
    }


def level_problem(space: SearchSpace, objectives: int) -> Problem:
    """One integer a site; the one constraint is that values are finite."""
    return Problem(n_var=len(space), n_obj=objectives, n_ieq_constr=1, xl=0, xu=space.counts - 1, vtype=int)


def evaluated(population: Population, means: FloatArray, spent: FloatArray) -> Population:
    """`population` told its mean objectives `[n]` and resources `[n, resources]`; infinite means are infeasible."""
    broken = ~np.isfinite(means)
    values = np.column_stack([np.where(broken, 0.0, means), spent])
    problem = StaticProblem(
        Problem(n_var=population.get("X").shape[1], n_obj=values.shape[1], n_ieq_constr=1),
        F=values,
        G=np.where(broken, 1.0, -1.0)[:, None],
    )
    return Evaluator().eval(problem, population)
