"""Tiny problems and their true optima, by trying every allocation."""

import itertools

import numpy as np

from sparsearch.search.front import make_front
from sparsearch.space import Allocation
from sparsearch.space.budget import Budget
from sparsearch.testing import quadratic_problem

TINY_BLOCK = {"attn": (8, 16), "up": (24, 16), "down": (16, 24)}
TINY_LEVELS = (0.25, 0.5, 0.75)
BUDGETS = {"one bound": Budget(sparsity=0.5), "two bounds": Budget(sparsity=0.5, bytes="0.79x")}


def tiny_problem(budget="one bound", **options):
    """3 sites of unequal size with 4 levels each."""
    return quadratic_problem(BUDGETS[budget], block=TINY_BLOCK, blocks=1, levels=TINY_LEVELS, **options)


def feasible(synthetic):
    """Every allocation that meets the limits."""
    space, limits = synthetic.problem.space, synthetic.problem.limits
    levels = np.array(list(itertools.product(*(range(count) for count in space.counts))))
    spent = limits.costs[:, np.arange(len(space)), levels].sum(axis=2)
    return [Allocation.of(row) for row in levels[(spent <= limits.bounds[:, None]).all(axis=0)]]


def least_sum(synthetic, table):
    """The least sum of `table[site, level]` over all feasible allocations."""
    sites = np.arange(len(synthetic.problem.space))
    return min(table[sites, allocation.array].sum() for allocation in feasible(synthetic))


def means(synthetic, allocations):
    """The objective of each over the whole panel."""
    return synthetic.values(allocations, range(synthetic.problem.sequences)).mean(axis=1)


def least_mean(synthetic):
    """The least objective of all feasible allocations."""
    return float(means(synthetic, feasible(synthetic)).min())


def true_front(synthetic, resource):
    """The front of the objective and one resource of the whole model."""
    found = tuple(feasible(synthetic))
    costs = np.array([[synthetic.problem.space.cost(resource, each)] for each in found])
    return make_front(found, means(synthetic, found), costs)


def volume(front, corner):
    """Area that two objectives dominate below `corner`, (resource, value), by a sweep over the resource."""
    area, low = 0.0, corner[1]
    for spent, value in sorted(zip(front.resources[:, 0].tolist(), front.values.tolist(), strict=True)):
        area += max(corner[0] - spent, 0.0) * max(low - value, 0.0)
        low = min(low, value)
    return area
