"""The objective against resources: what all searchers for a front share."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.search.base import Evaluate, Problem
from sparsearch.search.front import Front, make_front, thin
from sparsearch.search.scores import Scores, draw_sequences
from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.repair import cheapest
from sparsearch.space.space import FloatArray, summed


def resource_names(given: Any, least: int = 0) -> tuple[str, ...]:
    """The option `resources`, one name or a list of distinct ones, as a tuple of at least `least`.

    Raises:
        ConfigError: it is something else, or too few.
    """
    listed = [given] if isinstance(given, str) else given
    names = isinstance(listed, list | tuple) and all(isinstance(name, str) for name in listed)
    if not names or len(set(listed)) < len(listed) or len(listed) < least:
        raise ConfigError(
            f"searcher.resources: {given!r} is not allowed; give the names of one or more resources, each once"
        )
    return tuple(listed)


class Tradeoff:
    """The objective against `resources` of the whole model, all to be minimised.

    Attributes:
        resources: names of the space's, in the order of a front's columns.

    Raises:
        ConfigError: a resource that the space does not have.
    """

    def __init__(self, problem: Problem, resources: tuple[str, ...]) -> None:
        for name in resources:
            if name not in problem.space.costs:
                known = did_you_mean(name, problem.space.resources)
                raise ConfigError(f"searcher.resources: {name!r} is no resource of the search space; {known}")
        self.resources = resources
        self._problem = problem

    def spent(self, allocations: Sequence[Allocation]) -> FloatArray:
        """What each costs, `[allocations, resources]`."""
        space = self._problem.space
        rows = [[space.cost(name, each) for name in self.resources] for each in allocations]
        return np.array(rows, dtype=np.float64).reshape(len(allocations), len(self.resources))

    def front(self, means: Mapping[Allocation, float]) -> Front | None:
        """The front of those whose mean objective is finite; None where there are none."""
        sound = {allocation: mean for allocation, mean in means.items() if np.isfinite(mean)}
        if not sound:
            return None
        allocations = tuple(sound)
        return make_front(allocations, np.array(list(sound.values())), self.spent(allocations), self.resources)

    def confirmed(
        self, means: Mapping[Allocation, float], most: int, sequences: int, rng: np.random.Generator
    ) -> Generator[Evaluate, FloatArray, Front | None]:
        """The front of those that were evaluated, its points evaluated again, since the least of many means flatters.

        One request for at most `most` points, the least crowded ones, on `sequences` sequences of the panel; what
        then dominates none of the others stays. None where no mean is finite.
        """
        finals = Scores(draw_sequences(self._problem, sequences, rng))
        front = self.front(means)
        if front is None:
            return None
        kept = thin(front, most).allocations
        again = yield from finals.means(kept)
        return self.front(dict(zip(kept, again.tolist(), strict=True)))


def lowest(front: Front) -> Allocation:
    """The point with the least objective."""
    return front.allocations[int(front.values.argmin())]


class Descent:
    """Ever tighter bounds on `resources`, from the most that the budget lets them cost to the least they can.

    Any bounds of it can be met together with the budget, since one allocation meets the tightest ones: that with
    the least sum of all resources, each as a share of the dense model's.
    """

    def __init__(self, problem: Problem, resources: tuple[str, ...]) -> None:
        space, limits = problem.space, problem.limits
        tables = np.stack([space.costs[name] for name in resources])
        self._problem, self._resources, self._tables = problem, resources, tables
        self._most = np.array([summed(table, cheapest(space, limits, -table).array) for table in tables])
        dense = np.maximum(summed(tables, space.dense().array), np.finfo(np.float64).tiny)
        tightest = cheapest(space, limits, (tables / dense[:, None, None]).sum(axis=0))
        self._least = summed(tables, tightest.array)

    def limits(self, shares: FloatArray) -> Limits:
        """The budget with bounds on the resources that lie `shares` `[resources]`, 0 to 1, of the way down."""
        bounds = self._most + shares * (self._least - self._most)
        return tightened(self._problem, self._resources, bounds)

    def below(self, allocation: Allocation) -> Limits:
        """The budget with what the sites cost in `allocation` as bounds on the resources."""
        return tightened(self._problem, self._resources, summed(self._tables, allocation.array))


def tightened(problem: Problem, resources: tuple[str, ...], bounds: FloatArray) -> Limits:
    """The problem's limits and further `bounds` `[resources]` on what the sites cost in `resources`."""
    found = dict(zip(problem.limits.resources, problem.limits.bounds.tolist(), strict=True))
    # The tolerance lets an allocation meet the bounds that its own costs are, in whichever order they are summed.
    for name, bound in zip(resources, (bounds + 1e-12 * np.abs(bounds)).tolist(), strict=True):
        found[name] = min(bound, found.get(name, np.inf))
    costs = np.stack([problem.space.costs[name] for name in found])
    return Limits(tuple(found), np.array(list(found.values())), costs)
