"""Searchers and allocators, by name."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.search.allocators import Allocator
from sparsearch.search.allocators.best import BestAllocator
from sparsearch.search.allocators.registry import BY_NAME
from sparsearch.search.base import (
    Answer,
    Evaluate,
    Measure,
    Options,
    Problem,
    Progress,
    Rebuild,
    Request,
    Searcher,
    Sense,
    Steps,
    make_options,
)
from sparsearch.search.cmaes import CMAES
from sparsearch.search.differentiable import Differentiable
from sparsearch.search.equilibrium import Equilibrium
from sparsearch.search.evopress import EvoPress
from sparsearch.search.gp import GP
from sparsearch.search.greedy import Greedy
from sparsearch.search.knapsack import Knapsack
from sparsearch.search.nas import NAS
from sparsearch.search.nsga2 import NSGA2
from sparsearch.search.nsga3 import NSGA3
from sparsearch.search.progressive import Progressive
from sparsearch.search.quadratic import Quadratic
from sparsearch.search.random import RandomSearch
from sparsearch.search.rd import RateDistortion
from sparsearch.search.spdy import SPDY
from sparsearch.search.tpe import TPE
from sparsearch.search.tracenas import TraceNAS
from sparsearch.search.tyr import Tyr
from sparsearch.seeds import spawn

__all__ = [
    "ALLOCATORS",
    "SEARCHERS",
    "Allocator",
    "Answer",
    "Evaluate",
    "Measure",
    "Options",
    "Problem",
    "Progress",
    "Rebuild",
    "Request",
    "Searcher",
    "Sense",
    "Steps",
    "check_searcher",
    "describe_searchers",
    "make_searcher",
]

SEARCHERS: dict[str, type[Searcher]] = {
    **BY_NAME,
    "best_allocator": BestAllocator,
    "random": RandomSearch,
    "evopress": EvoPress,
    "tyr": Tyr,
    "quadratic": Quadratic,
    "tpe": TPE,
    "gp": GP,
    "cmaes": CMAES,
    "knapsack": Knapsack,
    "rd": RateDistortion,
    "spdy": SPDY,
    "greedy": Greedy,
    "equilibrium": Equilibrium,
    "differentiable": Differentiable,
    "nsga2": NSGA2,
    "nsga3": NSGA3,
    "nas": NAS,
    "progressive": Progressive,
    "tracenas": TraceNAS,
}
"""All searchers that a job file may name."""

ALLOCATORS: tuple[str, ...] = tuple(BY_NAME)
"""Names of those that need no evaluations, but at most statistics of the dense model."""


def check_searcher(name: str, options: dict[str, Any]) -> Options:
    """The options of the searcher `name` from a job file's mapping, checked.

    Raises:
        ConfigError: no such searcher or option, or a bad value.
    """
    if name not in SEARCHERS:
        raise ConfigError(f"searcher.name: {name!r} is no searcher; {did_you_mean(name, SEARCHERS)}")
    return make_options(SEARCHERS[name], options)


def make_searcher(name: str, options: dict[str, Any], problem: Problem, seed: int) -> Searcher:
    """The searcher `name`; its randomness depends on `seed` and the name alone.

    Raises:
        ConfigError: no such searcher or option, or a bad value.
    """
    checked = check_searcher(name, options)
    return SEARCHERS[name](problem, checked, spawn(seed, "searcher", name))


def describe_searchers() -> list[dict[str, Any]]:
    """For each searcher its name, summary, options with defaults, and whether it evaluates; JSON-able."""
    return [
        {
            "name": name,
            "summary": (inspect.getdoc(searcher) or "").partition("\n")[0],
            "options": {field.name: _plain(field.default) for field in fields(searcher.options_type)},
            "evaluates": name not in BY_NAME,
        }
        for name, searcher in SEARCHERS.items()
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
