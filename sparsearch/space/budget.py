"""Budgets: bounds on one or several resources at once."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sparsearch.errors import ConfigError, InfeasibleBudgetError, did_you_mean
from sparsearch.space.allocation import Allocation
from sparsearch.space.knapsack import solve_knapsack
from sparsearch.space.space import FloatArray, IntArray, SearchSpace, summed

UNITS = {
    "": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
    "KIB": 2.0**10, "MIB": 2.0**20, "GIB": 2.0**30, "TIB": 2.0**40,
}  # fmt: skip
MILLI = 1e-3
TIME_UNITS = {"": 1.0, "S": 1.0, "MS": MILLI, "US": 1e-6}


@dataclass(frozen=True, slots=True)
class Amount:
    """A bound: `value` in the resource's own unit, or as a factor of the dense model."""

    value: float
    relative: bool

    def __str__(self) -> str:
        return f"{self.value:g}x" if self.relative else f"{self.value:.10g}"

    def text(self, resource: str) -> str:
        """As it would stand in a job file: a latency in milliseconds."""
        return str(self) if self.relative or resource != "latency" else f"{self.value / MILLI:.10g}ms"


def parse_amount(resource: str, value: float | str) -> Amount:
    """`3.1e9`, `"4GiB"`, for latency `"12ms"` (absolute), `"0.7x"`, `"70%"` (of the dense model) as an amount.

    Raises:
        ConfigError: not an amount, or not positive.
    """
    units, example = (TIME_UNITS, "12ms, 800us") if resource == "latency" else (UNITS, "4GiB, 3.1G")
    allowed = f"allowed: a positive number, one with a unit ({example}), or a factor of the dense model (0.7x, 70%)"
    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*([a-zA-Z%]*)\s*", str(value))
    try:
        number, unit = float(match[1]), match[2].upper()  # type: ignore[index]
    except (TypeError, ValueError):
        raise ConfigError(f"budget.{resource}: {value!r} is not an amount; {allowed}") from None
    if not number > 0 or number == float("inf"):
        raise ConfigError(f"budget.{resource}: {value!r} is not positive and finite; {allowed}")
    if unit in ("X", "%"):
        return Amount(number / 100 if unit == "%" else number, relative=True)
    if unit not in units:
        raise ConfigError(f"budget.{resource}: unit {match[2]!r} is unknown; {allowed}")  # type: ignore[index]
    return Amount(number * units[unit], relative=False)


def parse_sparsity(value: float | str) -> float:
    """A sparsity such as `0.6` or `"60%"`."""
    text = str(value).strip()
    try:
        sparsity = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        sparsity = -1.0
    if not 0 <= sparsity < 1:
        raise ConfigError(
            f"budget.sparsity: {value!r} is not a sparsity; allowed: 0 up to, not including, 1 (0.6 or 60%)"
        )
    return sparsity


class Budget:
    """What the compressed model may cost: `Budget(sparsity=0.6)`, `Budget(bytes="4GiB", params="0.7x")`.

    `sparsity` counts the weights of the sites alone (as papers do); every resource counts the whole model.
    """

    def __init__(self, sparsity: float | str | None = None, **resources: float | str) -> None:
        if sparsity is None and not resources:
            raise ConfigError("budget is empty; give at least one bound, for example sparsity: 0.6")
        self.sparsity = None if sparsity is None else parse_sparsity(sparsity)
        self.amounts = {name: parse_amount(name, value) for name, value in sorted(resources.items())}

    def describe(self) -> dict[str, str]:
        """The bounds as text, as they would stand in a job file."""
        sparsity = {} if self.sparsity is None else {"sparsity": f"{self.sparsity:g}"}
        return sparsity | {name: amount.text(name) for name, amount in self.amounts.items()}

    def __repr__(self) -> str:
        return f"Budget({', '.join(f'{name}={value}' for name, value in self.describe().items())})"

    def limits(self, space: SearchSpace) -> Limits:
        """The bounds on the sites' summed costs in `space`.

        Raises:
            ConfigError: a resource that the space does not know.
            InfeasibleBudgetError: no allocation meets the bounds; the message has the reachable range.
        """
        bounds: dict[str, float] = {}
        for name, amount in self.amounts.items():
            if name not in space.costs:
                raise ConfigError(f"budget.{name}: {_unknown(name, space)}")
            total = amount.value * (space.cost(name, space.dense()) if amount.relative else 1.0)
            bounds[name] = total - space.constants[name]
        if self.sparsity is not None:
            bounds["params"] = min((1 - self.sparsity) * space.prunable, bounds.get("params", np.inf))
        # The tolerance keeps (1 - 0.6) * n from landing one ulp below an integer number of kept weights.
        limits = Limits(
            tuple(bounds),
            np.array(list(bounds.values())) * (1 + 1e-12),
            np.stack([space.costs[name] for name in bounds]),
        )
        self._check_reachable(space, limits)
        return limits

    def _check_reachable(self, space: SearchSpace, limits: Limits) -> None:
        cheapest = np.where(space.valid, limits.costs, np.inf).min(axis=2).sum(axis=1)
        for name, least, bound in zip(limits.resources, cheapest, limits.bounds, strict=True):
            if least > bound:
                raise InfeasibleBudgetError(f"budget.{self._reachable(space, name, least)}")
        if len(limits.resources) == 1:
            return
        # The least sum of all relative costs: any feasible choice would do, this one is found soon.
        scale = np.maximum(np.abs(limits.bounds), 1.0)[:, None, None]
        values = np.where(space.valid, limits.costs / scale, 0.0).sum(axis=0)
        if solve_knapsack(values, space.valid, limits.costs, limits.bounds) is None:
            bounds = ", ".join(f"{name} {value}" for name, value in self.describe().items())
            raise InfeasibleBudgetError(f"budget: {bounds} can each be met but not together; loosen one of them")

    def _reachable(self, space: SearchSpace, name: str, least: float) -> str:
        if name == "params" and self.sparsity is not None:
            most = 1 - least / space.prunable
            if self.sparsity > most:
                return f"sparsity: {self.sparsity:g} cannot be met; reachable with these levels: 0 to {_floor(most)}"
        low, high = least + space.constants[name], space.cost(name, space.dense())
        return (
            f"{name}: {self.amounts[name].text(name)} cannot be met; reachable with these levels: "
            f"{_exact(name, low)} to {_exact(name, high)} ({_ceil(low / high)}x to 1x), "
            f"{_exact(name, space.constants[name])} of it outside the sites"
        )


def show_amount(resource: str, value: float) -> str:
    """An amount of a resource for people: seconds as milliseconds, large numbers as whole ones."""
    if resource == "latency":
        return f"{value / MILLI:.4g} ms"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _exact(resource: str, value: float) -> str:
    """An amount that can be copied into a job file; latencies are rounded up to be met still."""
    return f"{_ceil(value / MILLI):.10g}ms" if resource == "latency" else f"{value:.10g}"


def _unknown(name: str, space: SearchSpace) -> str:
    if name == "latency":
        return "nothing was measured; add hardware: FILE, which sparsearch measure --out FILE writes"
    return f"no such resource; {did_you_mean(name, ['sparsity', *space.resources])}"


def _floor(value: float) -> float:
    """Four decimals, rounded so that a bound copied from the message can be met."""
    return math.floor(value * 1e4 + 1e-6) / 1e4


def _ceil(value: float) -> float:
    return math.ceil(value * 1e4 - 1e-6) / 1e4


@dataclass(frozen=True, eq=False)
class Limits:
    """A budget resolved for one search space: for each resource r, `sum_u costs[r, u, level_u] <= bounds[r]`.

    Attributes:
        resources: names, R of them.
        bounds: `[R]`, constants of the model already taken off.
        costs: `[R, sites, max levels]`.
    """

    resources: tuple[str, ...]
    bounds: FloatArray
    costs: FloatArray

    @cached_property
    def framed(self) -> FloatArray:
        """`costs` with an infinite level before the first and behind the last, `[R, sites, max levels + 2]`."""
        return np.pad(self.costs, ((0, 0), (0, 0), (1, 1)), constant_values=np.inf)

    def spent(self, levels: IntArray) -> FloatArray:
        """Summed costs `[R]` of `levels` `[sites]`."""
        return summed(self.costs, levels)

    def met(self, allocation: Allocation) -> bool:
        """Whether `allocation` meets every bound."""
        return bool((self.spent(allocation.array) <= self.bounds).all())
