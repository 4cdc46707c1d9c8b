"""Tiny problems and their true optima, by trying every allocation."""

import itertools

import numpy as np

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
    every = map(Allocation.of, itertools.product(*(range(count) for count in space.counts)))
    return [allocation for allocation in every if limits.met(allocation)]


def least_sum(synthetic, table):
    """The least sum of `table[site, level]` over all feasible allocations."""
    sites = np.arange(len(synthetic.problem.space))
    return min(table[sites, allocation.array].sum() for allocation in feasible(synthetic))


def least_mean(synthetic):
    """The least objective of all feasible allocations."""
    return min(map(synthetic.mean, feasible(synthetic)))
