"""What a predictor-based searcher has evaluated, and the design that it begins with."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import ndtri
from scipy.stats.qmc import Sobol

from sparsearch.search.base import Evaluate, Problem
from sparsearch.search.basis import depth_basis
from sparsearch.search.predictor import CURVES, Features, Predictor
from sparsearch.search.scores import draw_sequences
from sparsearch.space.allocation import Allocation
from sparsearch.space.space import FloatArray

OUTERMOST = 3.0
"""Standard deviations within which all offsets of a design lie."""

MEMORY = 256
"""Latest evaluations that the predictor is fitted to. They lie where the search is now: with all of them a curve of
two coefficients has to hold from ruined models to the best ones, and its errors are several times too small."""

MOST = 8.0
"""Largest inflation of standard errors."""

STAGES = ((8, 16), (3, 64))
"""Of the final comparison: how many of the allocations left take part, and on how many further sequences."""


class Archive:
    """All evaluations so far, each batch of allocations on few sequences of its own.

    Fresh sequences for every batch tell more of the whole panel than the same ones again, and the offset of a
    batch is fitted; so every batch should hold an allocation of an earlier one.

    Attributes:
        known: all allocations, in the order in which they were evaluated first.
        evaluated: how many rows there are; an allocation in two batches counts twice.
    """

    def __init__(self, problem: Problem, sequences: int, rng: np.random.Generator) -> None:
        self.known: dict[Allocation, None] = {}
        self.evaluated = 0
        self._problem, self._sequences, self._rng = problem, sequences, rng
        self._features = Features.of(problem)
        self._levels: list[tuple[int, ...]] = []
        self._means: list[float] = []
        self._batches: list[int] = []
        self._last: Predictor | None = None

    def evaluate(self, allocations: Iterable[Allocation]) -> Generator[Evaluate, FloatArray, None]:
        """Takes in the means of distinct `allocations` on the same fresh sequences."""
        batch = tuple(dict.fromkeys(allocations))
        sequences = draw_sequences(self._problem, self._sequences, self._rng)
        means = (yield Evaluate(batch, sequences)).mean(axis=1)
        number = self._batches[-1] + 1 if self._batches else 0
        self.known |= dict.fromkeys(batch)
        self.evaluated += len(batch)
        self._levels += [allocation.levels for allocation in batch]
        self._means += means.tolist()
        self._batches += [number] * len(batch)

    def fit(self) -> Predictor:
        """The predictor of the latest ones, its errors inflated by how far off the one before was in the last batch.

        What was evaluated because it promised most is where a model is wrong most, so that the errors of a fit alone
        are several times too small there.
        """
        targets = squeezed(np.array(self._means))[-MEMORY:]
        levels, batches = np.array(self._levels[-MEMORY:]), np.array(self._batches[-MEMORY:])
        predictor = Predictor.fit(
            self._features, levels, targets, batches, None if self._last is None else self._last.scales
        )
        inflation = 1.0 if self._last is None else float(np.clip(self._surprise(self._last), 1.0, MOST))
        self._last = predictor
        return replace(predictor, inflation=inflation)

    def _surprise(self, predictor: Predictor) -> float:
        """Root mean square of the errors of `predictor` in the latest batch, in standard errors."""
        latest = np.flatnonzero(np.array(self._batches) == self._batches[-1])
        if len(latest) == 1:
            return 1.0
        levels, targets = np.array(self._levels)[latest], squeezed(np.array(self._means))[latest]
        found = predictor.contrast(levels[1:], levels[0])
        expected = np.hypot(found.error, np.sqrt(2.0) * predictor.noise) + 1e-300
        return float(np.sqrt(np.mean(((targets[1:] - targets[0] - found.mean) / expected) ** 2)))

    @property
    def recent(self) -> list[Allocation]:
        """The distinct allocations that the predictor is fitted to; it is wrong about older ones."""
        return [Allocation(levels) for levels in dict.fromkeys(self._levels[-MEMORY:])]

    def ranked(self, predictor: Predictor, allocations: Sequence[Allocation]) -> list[Allocation]:
        """`allocations`, those with the least predicted objective first."""
        levels = np.array([allocation.levels for allocation in allocations])
        means = predictor.contrast(levels, levels[0]).mean
        return [allocations[index] for index in np.argsort(means, kind="stable")]


def squeezed(means: FloatArray) -> FloatArray:
    """`arcsinh(mean / |first mean|)`: straight for small objectives, logarithmic for ruined models.

    Those that give no numbers count as the worst of the others.
    """
    sound = np.isfinite(means)
    worst = float(means[sound].max(initial=-np.inf))
    filled = np.where(sound, means, worst if np.isfinite(worst) else 0.0)
    return np.arcsinh(filled / (abs(float(filled[0])) or 1.0))


def perturbed(
    problem: Problem, center: Allocation, spread: float, count: int, rng: np.random.Generator
) -> list[FloatArray]:
    """`count` wishes for sparsities `[sites]` that fill the space around `center`, in opposite pairs.

    Offsets are normal quantiles of a scrambled Sobol' sequence: half of their variance is smooth over the depth
    for each kind of site, half each site's own, so that effects of both can be told. A pair lies on both sides
    of the center: its difference is free of what is even, such as curvature and pairs.

    Args:
        spread: standard deviation, in sparsity.
    """
    space = problem.space
    columns = depth_basis(space, CURVES).columns
    pairs = -(-count // 2)
    # Sobol' points are balanced in powers of 2.
    points = Sobol(len(space) + columns.shape[1], seed=rng).random_base2(max(pairs - 1, 0).bit_length())[:pairs]
    normal = np.clip(ndtri(points), -OUTERMOST, OUTERMOST)
    own, smooth = normal[:, : len(space)], normal[:, len(space) :] @ columns.T
    offsets = spread * np.sqrt(0.5) * (own + smooth / np.sqrt(CURVES))
    now = np.take_along_axis(space.sparsities, center.array[:, None], axis=1)[:, 0]
    return [now + sign * offset for offset in offsets for sign in (1.0, -1.0)][:count]


def final_forwards(problem: Problem, candidates: int) -> int:
    """Sequences that `settled` evaluates at most, over all of `candidates`."""
    counts = _stage_sequences(problem)
    return sum(min(keep, candidates) * count for (keep, _), count in zip(STAGES, counts, strict=True))


def settled(
    problem: Problem, candidates: Sequence[Allocation], rng: np.random.Generator
) -> Generator[Evaluate, FloatArray, Allocation]:
    """The best of `candidates`, by stages: fewer of them on more sequences, the first ones when there are too many.

    All that are left are compared on the same sequences, those of earlier stages included. Sequential halving
    (Karnin, Koren & Somekh, "Almost Optimal Exploration in Multi-Armed Bandits", 2013), with two stages.
    """
    order = rng.permutation(problem.sequences).tolist()
    sums: dict[Allocation, float] = {}
    left = list(dict.fromkeys(candidates))
    for (keep, _), count in zip(STAGES, _stage_sequences(problem), strict=True):
        left = left[:keep]
        drawn, order = order[:count], order[count:]
        if len(left) == 1 or not drawn:
            continue
        values = (yield Evaluate(tuple(left), tuple(sorted(drawn)))).sum(axis=1)
        for allocation, total in zip(left, values.tolist(), strict=True):
            sums[allocation] = sums.get(allocation, 0.0) + (total if np.isfinite(total) else np.inf)
        left.sort(key=sums.__getitem__)
    return left[0]


def _stage_sequences(problem: Problem) -> list[int]:
    """Further sequences of each stage, as many as the panel has."""
    counts, left = [], problem.sequences
    for _, wanted in STAGES:
        counts.append(min(wanted, left))
        left -= counts[-1]
    return counts
