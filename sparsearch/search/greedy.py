"""Greedy search: one site at a time by the best ratio of what a step changes to what it saves."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sparsearch.search.base import Evaluate, Options, Progress, Request, Searcher, Steps
from sparsearch.search.checks import one_of, positive_integer
from sparsearch.search.curves import measured_changes, monotone_curves, probed_levels
from sparsearch.search.scores import Scores, draw_sequences
from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Limits
from sparsearch.space.repair import cheapest
from sparsearch.space.space import BoolArray, FloatArray, IntArray

DIRECTIONS = ("forward", "backward")

SLOPE = 1e-4
"""Least rise of a curve over all its levels, as a share of the largest one: a flat one could not be scaled."""

DEARER = 10.0
"""Factor on what a step is predicted to cost, once it has broken the model."""


@dataclass(frozen=True, slots=True)
class GreedyOptions(Options):
    """Options of `greedy`.

    Attributes:
        direction: `forward`, from the dense model, or `backward`, from the sparsest allocation.
        candidates: steps that are measured before one is taken.
        levels: measured of each site at the start, for the curves that pick the candidates.
        sequences: of the panel that everything is measured on.
    """

    direction: str = "forward"
    candidates: int = 4
    levels: int = 4
    sequences: int = 8

    def __post_init__(self) -> None:
        one_of("direction", self.direction, DIRECTIONS)
        for option in ("candidates", "levels", "sequences"):
            positive_integer(option, getattr(self, option))


class Greedy(Searcher):
    """One step after another, each the one that changes the objective least for what it saves, or gains most.

    The greedy algorithm of the multiple-choice knapsack (Kellerer, Pferschy & Pisinger, "Knapsack Problems", 2004,
    section 11.2) on a measured objective, with lazy evaluation (Minoux, "Accelerated Greedy Algorithms for
    Maximizing Submodular Set Functions", 1978). `forward`: from the dense model, make that site sparser whose

        (J(now with u at l) - J(now)) / saving(u, l)

    is least, until the budget is met; saving is the share of what is missing that a step saves, summed over the
    bounds that are still broken. Then, and with `backward` from the sparsest allocation alone, make that site
    denser which gains most for what it adds, in shares of what is left, summed over all bounds, while a step fits
    and gains. A step goes to the level with the best ratio, mostly the next one.

    Measuring all sites before every step takes thousands of evaluations a level, so a step is predicted first: by
    one-at-a-time curves from the start (`curves.monotone_curves`), each scaled by what the last measured step of
    that site changed over what its curve said. The most promising `candidates` are measured at the current
    allocation, in one request, and the best is taken. In the original lazy greedy the next one is measured until
    the best measured stands before all that are stale; that needs steps which never get cheaper, and where sites
    interact they do.

    Costs `sites * levels` evaluations for the curves and `candidates` a step, all of `sequences` forwards; there
    are about as many steps as levels between the start and the answer, so some thousand for 84 sites. Forward,
    evaluations lie outside the budget until it is met.
    """

    name: ClassVar[str] = "greedy"
    options_type: ClassVar[type[Options]] = GreedyOptions
    options: GreedyOptions

    def steps(self) -> Steps:
        """The curves, then one request a step."""
        space, limits = self.problem.space, self.problem.limits
        forward = self.options.direction == "forward"
        start = space.dense() if forward else cheapest(space, limits, -np.nan_to_num(space.sparsities))
        self._scores = Scores(draw_sequences(self.problem, self.options.sequences, self.rng))
        levels = [[0, *probed] for probed in probed_levels(space, self.options.levels)]
        changes = yield from measured_changes(space, self._scores, start, levels)
        self._curves = sloping(monotone_curves(space, changes.mean(axis=0)))
        self._factors = np.ones(len(space))
        now = start if limits.met(start) else (yield from self._sparser(start))
        found = yield from self._denser(now)
        self.progress = Progress(self.progress.done, self.progress.done, found)
        return found

    def _sparser(self, now: Allocation) -> Generator[Request, Any, Allocation]:
        """From `now`, which breaks the budget, to one that meets it."""
        while not self.problem.limits.met(now):
            saved = savings(self.problem.limits, now.array)
            saved[np.arange(saved.shape[1])[None] <= now.array[:, None]] = 0.0
            candidates = self._candidates(now, saved, saved > 0)
            if not candidates:
                # Only several steps at once save anything.
                return cheapest(self.problem.space, self.problem.limits, self._curves)
            measured = yield from self._measure(now, candidates)
            now = now.replace(dict([candidates[_best(measured, saved, candidates)]]))
            self._note(None)
        return now

    def _denser(self, now: Allocation) -> Generator[Request, Any, Allocation]:
        """From `now`, which meets the budget, until no step fits and gains."""
        limits = self.problem.limits
        self._note(now)
        while True:
            added, fits = additions(limits, now.array)
            fits &= np.arange(fits.shape[1])[None] < now.array[:, None]
            candidates = self._candidates(now, added, fits & (self._predicted(now) < 0))
            if not candidates:
                return now
            measured = yield from self._measure(now, candidates)
            best = _best(measured, added, candidates)
            if measured[best] < 0:
                now = now.replace(dict([candidates[best]]))
            else:
                self._factors[[site for site, _ in candidates]] = 0.0
            self._note(now)

    def _predicted(self, now: Allocation) -> FloatArray:
        """What each level of each site is predicted to change, `[sites, max levels]`."""
        own = self._curves[np.arange(len(now)), now.array]
        return self._factors[:, None] * (self._curves - own[:, None])

    def _candidates(self, now: Allocation, amounts: FloatArray, allowed: BoolArray) -> list[tuple[int, int]]:
        """(site, level) of the sites with the best predicted ratios, the best one first."""
        ratios = np.full(amounts.shape, np.inf)
        np.divide(self._predicted(now), amounts, out=ratios, where=allowed)
        levels = ratios.argmin(axis=1)
        least = ratios[np.arange(len(levels)), levels]
        order = np.argsort(least, kind="stable")[: self.options.candidates]
        return [(int(site), int(levels[site])) for site in order if least[site] < np.inf]

    def _measure(
        self, now: Allocation, candidates: list[tuple[int, int]]
    ) -> Generator[Evaluate, FloatArray, FloatArray]:
        """What each of `candidates` changes, `inf` where it breaks the model; their sites' factors follow."""
        means = yield from self._scores.means([now, *(now.replace(dict([move])) for move in candidates)])
        with np.errstate(invalid="ignore"):  # inf - inf
            changes = means[1:] - means[0]
        changes = np.where(np.isfinite(changes), changes, np.inf)
        for (site, level), change in zip(candidates, changes.tolist(), strict=True):
            said = self._curves[site, level] - self._curves[site, now.levels[site]]
            self._factors[site] = change / said if change < np.inf else DEARER * self._factors[site]
        return changes

    def _note(self, incumbent: Allocation | None) -> None:
        done = self.progress.done + 1
        self.progress = Progress(done, done + 1, incumbent)


def sloping(curves: FloatArray) -> FloatArray:
    """`curves` `[sites, max levels]`, non-decreasing, with a small rise added so that every step changes something."""
    levels = curves.shape[1]
    rise = SLOPE * max(float(np.ptp(curves)), 1e-12) / levels
    return curves + rise * np.arange(levels)


def savings(limits: Limits, levels: IntArray) -> FloatArray:
    """What each level of each site would save, `[sites, max levels]`, from `levels` `[sites]` that break a bound.

    In shares of what is missing, at most all of it, summed over the broken bounds; negative where it costs more.
    """
    excess = limits.spent(levels) - limits.bounds
    broken = excess > 0
    costs = limits.costs[broken]
    now = costs[:, np.arange(len(levels)), levels]
    return np.minimum((now[:, :, None] - costs) / excess[broken, None, None], 1.0).sum(axis=0)


def additions(limits: Limits, levels: IntArray) -> tuple[FloatArray, BoolArray]:
    """What each level of each site would add to `levels` `[sites]`, which meet the bounds, and whether it fits.

    Both `[sites, max levels]`. In shares of what is left, summed over the bounds; never 0, so that it divides.
    """
    room = limits.bounds - limits.spent(levels)
    now = limits.costs[:, np.arange(len(levels)), levels]
    added = limits.costs - now[:, :, None]
    shares = np.maximum(added, 0.0) / np.maximum(room, 1e-300)[:, None, None]
    return np.maximum(shares.sum(axis=0), 1e-12), np.all(added <= room[:, None, None], axis=0)


def _best(changes: FloatArray, amounts: FloatArray, candidates: list[tuple[int, int]]) -> int:
    """Index of the candidate with the least change for its amount, the first one where all break the model."""
    return int(np.argmin([change / amounts[move] for change, move in zip(changes, candidates, strict=True)]))
