"""Racing: candidates against an incumbent on more and more sequences; who is clearly worse drops out early."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from sparsearch.search.base import Evaluate
from sparsearch.space.allocation import Allocation
from sparsearch.space.space import FloatArray

PRIOR = 4
"""Sequences' worth of weight that the variance pooled over candidates has in each candidate's own."""

FINAL_ERRORS = 1.0
"""Standard errors below 0 at which a candidate wins that is still undecided at the last look."""

UNKNOWN = 1e200
"""Standard error of a single number; finite, as 0 times infinity is no number."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the values up to now decide.

    Attributes:
        leader: index of the candidate with the lowest mean.
        gain: mean difference of the leader to the incumbent; below 0 is better.
        error: its standard error.
        won: the leader is better than the incumbent with confidence.
        stays: bool `[candidates]`, who is not eliminated.
    """

    leader: int
    gain: float
    error: float
    won: bool
    stays: NDArray[np.bool_]


def race(
    incumbent: Allocation,
    candidates: Sequence[Allocation],
    order: Sequence[int],
    blocks: Sequence[int],
    alpha: float,
) -> Generator[Evaluate, FloatArray, tuple[Allocation, int]]:
    """Finds a candidate that is better than the incumbent, on as few sequences as it takes.

    After Maron & Moore, "Hoeffding Races" (1994), and F-Race (Birattari et al. 2002), with paired one-sided
    Student t bounds. After each block of sequences a candidate drops out that is worse than the incumbent, or
    than the leading candidate, with confidence; the survivors go on. The race is over as soon as the leader is
    better than the incumbent with confidence (which of several good ones is the very best is not worth the
    sequences: the next generation starts from any of them), when nobody is left, or at the last look, where the
    leader still has to lie a standard error below the incumbent.

    Error probabilities, by the union bound, for normal differences of about equal variance and L looks: a race
    lets a candidate win before the last look that is no better than the incumbent with probability at most
    `alpha` (`alpha / L / candidates` a test); a candidate that is better than the incumbent is dropped against
    it with probability at most `alpha`, one that is better than a given rival is dropped against that one with
    probability at most `alpha` (`alpha / L` a test). A rival leads because it looks good, so over all rivals
    together a good candidate is lost more often: that costs a little gain, the split bound costs more sequences.

    The incumbent is in every request; a loop that remembers values pays for it once a sequence.

    Args:
        incumbent: what is to be beaten.
        candidates: distinct allocations, at least one, none of them the incumbent.
        order: sequences of the panel, in the order in which they are used.
        blocks: sequences of each block; cut off where `order` ends.
        alpha: error probability, above 0 and at most 0.5.

    Returns:
        The winner, the incumbent where nobody beats it; and how many sequences of `order` were used.
    """
    ends = [min(end, len(order)) for end in accumulate(blocks)]
    ends = [end for index, end in enumerate(ends) if not index or end > ends[index - 1]]
    risk = alpha / len(ends)
    field, begin = list(candidates), 0
    seen = np.empty((1 + len(field), 0))
    for end in ends:
        values = yield Evaluate((incumbent, *field), tuple(sorted(order[begin:end])))
        seen, begin = np.concatenate((seen, values), axis=1), end
        finite = np.logical_and.reduce(np.isfinite(seen), axis=1)
        if not finite[0] and finite.any():
            # The incumbent is a model pruned to death; whatever gives numbers is better.
            return field[int(np.where(finite, seen.mean(axis=1), np.inf)[1:].argmin())], end
        field = [candidate for candidate, alive in zip(field, finite[1:], strict=True) if alive]
        if not field:
            return incumbent, end
        seen = seen[finite]
        look = judge(seen[1:] - seen[0], risk, risk / len(candidates))
        last = end == ends[-1] and look.gain + FINAL_ERRORS * look.error < 0
        if look.won or last:
            return field[look.leader], end
        field = [candidate for candidate, stays in zip(field, look.stays, strict=True) if stays]
        if not field:
            return incumbent, end
        seen = seen[np.concatenate(([True], look.stays))]
    return incumbent, begin


def judge(differences: FloatArray, risk: float, win_risk: float) -> Look:
    """Who leads, who has won and who drops out.

    Args:
        differences: candidate minus incumbent, finite float64 `[candidates, sequences]`.
        risk: error probability of each elimination test.
        win_risk: error probability of the test that the leader is better than the incumbent.
    """
    means = differences.mean(axis=1)
    leader = int(means.argmin())
    errors, freedom = standard_errors(differences)
    behind, _ = standard_errors(np.delete(differences - differences[leader], leader, axis=0))
    bound = float(stdtrit(freedom, 1 - risk))
    stays = means - bound * errors <= 0
    stays &= means - means[leader] - bound * np.insert(behind, leader, 0.0) <= 0
    won = means[leader] + stdtrit(freedom, 1 - win_risk) * errors[leader] < 0
    return Look(leader, float(means[leader]), float(errors[leader]), bool(won), stays)


def standard_errors(differences: FloatArray) -> tuple[FloatArray, float]:
    """Standard error of each row's mean `[rows]`, guarded for few columns, and its degrees of freedom.

    With two or more columns each row's variance is shrunk to the mean of all rows' with the weight of `PRIOR`
    columns, as in the moderated t-statistic of Smyth (2004), with a fixed prior weight. A single column says
    nothing about the spread over columns; the spread over rows stands in, which holds the rows' true differences
    as well and so is too large rather than too small. `UNKNOWN` where there is only one number.
    """
    rows, columns = differences.shape
    if columns > 1:
        own = differences.var(axis=1, ddof=1)
        pooled = own.mean() if rows else 0.0
        variances = (PRIOR * pooled + (columns - 1) * own) / (PRIOR + columns - 1)
        return np.sqrt(variances / columns), float(PRIOR + columns - 1)
    spread = differences.std(ddof=1) if rows > 1 else UNKNOWN
    return np.full(rows, spread), float(max(rows - 1, 1))
