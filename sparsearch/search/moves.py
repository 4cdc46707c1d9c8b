"""Moves between feasible allocations that keep the budget met and tight."""

from __future__ import annotations

import numpy as np

from sparsearch.space.budget import Limits
from sparsearch.space.repair import Walk, pick
from sparsearch.space.space import IntArray, SearchSpace


def level_switch(space: SearchSpace, limits: Limits, levels: IntArray, rng: np.random.Generator) -> IntArray:
    """EvoPress's level switch for levels of unequal cost: one random site denser, another one sparser.

    Two sites are drawn, whatever their sizes: one gets one level denser, the other one level sparser. While a
    bound is broken then, further sites get one level sparser, drawn among those that pay for what is missing
    without overpaying. Last, random sites get denser while a step fits, so that the budget stays tight.

    A large site that gets denser is so paid for by many small ones, one that gets sparser pays for as many,
    and both are equally likely: without selection no kind of site drifts. Drawing the payers from all sites
    instead would let a large site pay for a small one and hardly ever the reverse, and leave what is over to
    small sites: without selection those would end up dense.

    Args:
        space: the search space.
        limits: the bounds, met by `levels`.
        levels: level indices `[sites]`; not changed.
        rng: the randomness.

    Returns:
        New level indices `[sites]`, feasible and tight; equal to `levels` where no switch was possible. A
        fraction of a millisecond for hundreds of sites.
    """
    walk = Walk(limits, levels)
    denser, sparser = np.flatnonzero(levels > 0), np.flatnonzero(levels < space.counts - 1)
    if not len(denser):
        return walk.levels
    gains = pick(denser, rng)
    walk.move(gains, -1)
    if len(others := sparser[sparser != gains]):
        walk.move(pick(others, rng), 1)
    while not walk.met():
        payers = _payers(walk, limits, gains)
        if not len(payers):
            return levels.copy()
        walk.move(pick(payers, rng), 1)
    walk.fill(rng)
    return walk.levels


def _payers(walk: Walk, limits: Limits, gains: int) -> IntArray:
    """Sites other than `gains` that may get sparser to pay for the worst broken bound."""
    worst = int(np.argmin(walk.room / limits.costs[:, :, 0].sum(axis=1)))
    saved = walk.saved[worst].copy()
    saved[gains] = -np.inf
    useful = saved > 0
    # Overpaying by less than the smallest step mirrors `fill`, which leaves less than that unspent.
    most = np.where(useful, saved, np.inf).min() - walk.room[worst]
    return np.flatnonzero(useful & (saved < most))
