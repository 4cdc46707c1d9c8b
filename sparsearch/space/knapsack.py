"""The multiple-choice knapsack: one level per site, least total value, every budget met. Solved exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FIRST_WINDOW = 16  # alternatives let in by the first window of reduced values
WIDEN = 2.0
MAX_LABELS = 50_000  # partial choices alive with one constraint; up to 15 thousand were seen
MAX_LABELS_SEVERAL = 2_000  # the same with several constraints, where dominance is rare
NEIGHBOURS = 12  # labels that one is compared with where several constraints bind


def solve_knapsack(
    values: FloatArray, valid: NDArray[np.bool_], costs: FloatArray, bounds: FloatArray
) -> IntArray | None:
    """Minimises `sum_u values[u, z_u]` subject to `sum_u costs[r, u, z_u] <= bounds[r]`.

    The prices of the linear relaxation turn values into reduced values, whose sum is how far a choice lies
    above the lower bound. Labels (partial choices) within a window of that sum are extended site by site,
    without those that are dominated or cannot end within the window; the window widens until a choice is
    found, which then is optimal. Exact while no more than `MAX_LABELS` labels (with several constraints
    `MAX_LABELS_SEVERAL`) are alive at once, else the best found, mostly within 1e-4.
    About 0.1 s for 224 sites of 19 levels, up to 1 s. HiGHS's integer solver is not used: it takes minutes on
    some such problems, meets bounds only to 1e-6, and writes on stdout.

    Args:
        values: `[sites, levels]`, finite where valid.
        valid: `[sites, levels]`, which levels a site has.
        costs: `[R, sites, levels]`.
        bounds: `[R]`.

    Returns:
        The level index of every site `[sites]`, or None when no choice meets the bounds.
    """
    values, costs = np.where(valid, values, np.inf), np.where(valid, costs, 0.0)
    costs, bounds = _not_implied(costs, _comparable(costs, bounds))
    prices = _prices(values, valid, costs, bounds)
    if prices is None:
        return None
    reduced = values + np.tensordot(prices, costs, axes=1)
    reduced -= reduced.min(axis=1, keepdims=True)
    problem = _Reduced(reduced, costs, bounds, prices)
    best = _greedy(problem)
    limit = problem.gap(best) if best is not None else problem.widest()
    alternatives = np.sort(reduced[valid & (reduced > 0)])
    window = float(alternatives[min(FIRST_WINDOW, len(alternatives)) - 1]) if len(alternatives) else 0.0
    while best is None or limit > 0:
        found = _extend(problem, min(window, limit))
        if found is not None:
            return found if best is None or problem.gap(found) < limit else best
        if window >= limit:
            break
        window = max(window * WIDEN, limit * 1e-9)
    return best


@dataclass(frozen=True, eq=False)
class _Reduced:
    """A knapsack in reduced values: `[sites, levels]`, least 0 in each row, infinite where invalid."""

    values: FloatArray
    costs: FloatArray
    bounds: FloatArray
    prices: FloatArray

    def spent(self, levels: IntArray) -> FloatArray:
        return self.costs[:, np.arange(len(levels)), levels].sum(axis=1)

    def gap(self, levels: IntArray) -> float:
        """How far the feasible choice `levels` lies above the lower bound."""
        unspent = self.prices @ (self.bounds - self.spent(levels))
        return float(self.values[np.arange(len(levels)), levels].sum() + unspent)

    def widest(self) -> float:
        """No feasible choice has a larger gap."""
        most = np.where(np.isfinite(self.values), self.values, 0.0).max(axis=1).sum()
        return float(most + self.prices @ (self.bounds - self.costs.min(axis=2).sum(axis=1)))


def _comparable(costs: FloatArray, bounds: FloatArray) -> FloatArray:
    """Bounds that sums in any order can be compared with: fractional costs get a margin for rounding."""
    whole = (costs == np.rint(costs)).all(axis=(1, 2))
    return np.where(whole, np.floor(bounds), bounds - 4e-16 * costs.shape[1] * np.abs(bounds))


def _not_implied(costs: FloatArray, bounds: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Without constraints that another one implies, such as flops where params are the tighter bound."""
    if (bounds <= 0).any():
        return costs, bounds
    relative = costs / bounds[:, None, None]
    kept: list[int] = []
    for row in np.argsort(-relative.sum(axis=(1, 2)), kind="stable"):
        if not any((relative[row] <= relative[other]).all() for other in kept):
            kept.append(int(row))
    return costs[sorted(kept)], bounds[sorted(kept)]


def _prices(values: FloatArray, valid: NDArray[np.bool_], costs: FloatArray, bounds: FloatArray) -> FloatArray | None:
    """The constraints' prices `[R]` in the linear relaxation; None where even that cannot be met."""
    sites, columns = np.nonzero(valid)
    count = len(sites)
    one_level = csr_array((np.ones(count), (sites, np.arange(count))), shape=(valid.shape[0], count))
    chosen = values[sites, columns]
    # HiGHS's tolerances are absolute, so values and bounds are brought near 1.
    unit = max(float(np.ptp(chosen)), 1e-300)
    scale = _scale(costs, bounds)
    result = linprog(  # type: ignore[call-overload]  # the stubs do not know that A_eq may be sparse
        (chosen - values.min(axis=1)[sites]) / unit,
        A_ub=costs[:, sites, columns] / scale[:, None],
        b_ub=bounds / scale,
        A_eq=one_level,
        b_eq=np.ones(valid.shape[0]),
        method="highs",
    )
    if result.x is None:
        return None
    return np.maximum(-np.asarray(result.ineqlin.marginals), 0.0) * unit / scale


def _scale(costs: FloatArray, bounds: FloatArray) -> FloatArray:
    """A unit for each resource `[R]`, never 0."""
    return np.maximum(np.maximum(np.abs(bounds), np.abs(costs).max(axis=(1, 2))), 1e-300)


def _greedy(problem: _Reduced) -> IntArray | None:
    """A feasible choice: the cheapest in reduced values, then single changes that save the excess best."""
    levels = problem.values.argmin(axis=1)
    rows = np.arange(len(levels))
    scale = _scale(problem.costs, problem.bounds)
    while True:
        excess = problem.spent(levels) - problem.bounds
        if (excess <= 0).all():
            return levels
        worst = int(np.argmax(excess / scale))
        table = problem.costs[worst]
        saved = np.minimum(table[rows, levels][:, None] - table, excess[worst])
        extra = np.maximum(problem.values - problem.values[rows, levels][:, None], 0.0)
        price = np.full(extra.shape, np.inf)
        np.divide(extra, saved, out=price, where=saved > 0)
        site, level = np.unravel_index(int(np.argmin(price)), price.shape)
        change = problem.costs[:, site, level] - problem.costs[:, site, levels[site]]
        # Nothing saves, or the change only moves the excess to another constraint, which might go on forever.
        if not np.isfinite(price[site, level]) or (excess + change > np.maximum(excess, 0)).any():
            return None
        levels[site] = level


@dataclass(frozen=True, eq=False)
class _Core:
    """What is left to choose once only levels with a reduced value within a window are allowed.

    Attributes:
        levels: `[sites]`, the least reduced value everywhere.
        order: sites with a choice, large steps first: small ones then decide how near the bounds one ends.
        choices: per site of `order` its allowed levels.
        tables: per site of `order` their costs `[choices, R]`.
        room: `[R]`, bounds less the cost of all other sites.
        least, most, usual: `[len(order) + 1, R]`, costs of the sites from each step of `order` on, `usual` at
            `levels`.
        prices: `[R]`.
    """

    levels: IntArray
    order: IntArray
    choices: list[IntArray]
    tables: list[FloatArray]
    room: FloatArray
    least: FloatArray
    most: FloatArray
    usual: FloatArray
    prices: FloatArray


def _core(problem: _Reduced, window: float) -> _Core:
    levels = problem.values.argmin(axis=1)
    allowed = problem.values <= window
    spans = np.where(allowed, problem.costs, -np.inf).max(axis=2) - np.where(allowed, problem.costs, np.inf).min(axis=2)
    span = (spans / _scale(problem.costs, problem.bounds)[:, None]).max(axis=0)
    undecided = np.flatnonzero(allowed.sum(axis=1) > 1)
    order = undecided[np.argsort(-span[undecided], kind="stable")]
    choices = [np.flatnonzero(allowed[site]) for site in order]
    tables = [problem.costs[:, site, choice].T for site, choice in zip(order, choices, strict=True)]
    least = _from_each([table.min(axis=0) for table in tables], problem.bounds)
    most = _from_each([table.max(axis=0) for table in tables], problem.bounds)
    usual = _from_each([problem.costs[:, site, levels[site]] for site in order], problem.bounds)
    room = problem.bounds - (problem.spent(levels) - usual[0])
    # A constraint that no allowed choice breaks and that has no price only hinders dominance.
    rows = np.flatnonzero((most[0] > room) | (problem.prices > 0) | (least[0] > room))
    rows = rows if len(rows) else np.array([0])
    tables = [table[:, rows] for table in tables]
    return _Core(
        levels, order, choices, tables, room[rows], least[:, rows], most[:, rows], usual[:, rows],
        problem.prices[rows],
    )  # fmt: skip


def _from_each(rows: list[FloatArray], like: FloatArray) -> FloatArray:
    """Sums of `rows` from each one to the last, and 0 behind it: `[len(rows) + 1, R]`."""
    table = np.reshape([*rows, np.zeros_like(like)], (len(rows) + 1, len(like)))
    return table[::-1].cumsum(axis=0)[::-1]


def _extend(problem: _Reduced, window: float) -> IntArray | None:
    """The best choice whose gap is at most `window`, or None; see `solve_knapsack`."""
    core = _core(problem, window)
    cap = MAX_LABELS if len(core.prices) == 1 else MAX_LABELS_SEVERAL
    slop = 1e-13 * (window + problem.prices @ np.abs(problem.bounds))
    values, room = np.zeros(1), core.room[None, :]
    trail: list[tuple[IntArray, IntArray]] = []
    for step, (site, choice) in enumerate(zip(core.order, core.choices, strict=True), start=1):
        values = (values[:, None] + problem.values[site, choice]).ravel()
        room = (room[:, None, :] - core.tables[step - 1]).reshape(len(values), -1)
        spare = room - core.usual[step]
        ends = values + np.where((spare >= 0).all(axis=1), spare @ core.prices, np.inf)
        window = min(window, float(ends.min()))
        lower = values + np.maximum(room - core.most[step], 0) @ core.prices
        kept = np.flatnonzero((room >= core.least[step]).all(axis=1) & (lower <= window + slop))
        kept = kept[_undominated(-room[kept], values[kept] + room[kept] @ core.prices)]
        if len(kept) > cap:
            off = values[kept] + np.abs(spare[kept]) @ core.prices
            kept = kept[np.argsort(off, kind="stable")[:cap]]
        if not len(kept):
            return None
        trail.append((kept // len(choice), choice[kept % len(choice)]))
        values, room = values[kept], room[kept]
    feasible = (room >= 0).all(axis=1)
    if not feasible.any():
        return None
    label = int(np.argmin(np.where(feasible, values + room @ core.prices, np.inf)))
    levels = core.levels.copy()
    for site, (parents, picked) in zip(core.order[::-1], trail[::-1], strict=True):
        levels[site], label = picked[label], int(parents[label])
    return levels


def _undominated(costs: FloatArray, values: FloatArray) -> IntArray:
    """Labels that no other one matches in value and in every cost, in order of value.

    With several constraints each label is compared with its neighbours only, so some dominated ones stay.
    """
    order = np.lexsort((costs[:, 0], values))
    costs = costs[order]
    if costs.shape[1] == 1:
        before = np.concatenate([[np.inf], np.minimum.accumulate(costs[:, 0])[:-1]])
        return order[costs[:, 0] < before]
    dominated = np.zeros(len(order), dtype=bool)
    for distance in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
        dominated[distance:] |= (costs[:-distance] <= costs[distance:]).all(axis=1)
    return order[~dominated]
