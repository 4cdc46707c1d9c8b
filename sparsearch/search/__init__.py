"""Searchers and allocators, by name."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.search.allocators import Allocator
from sparsearch.search.allocators.erk import ERK
from sparsearch.search.allocators.fisher import Fisher
from sparsearch.search.allocators.layer_error import LayerError
from sparsearch.search.allocators.uniform import Uniform
from sparsearch.search.base import (
    Answer,
    Evaluate,
    Options,
    Problem,
    Progress,
    Request,
    Searcher,
    Sense,
    Steps,
    make_options,
)
from sparsearch.search.evopress import EvoPress
from sparsearch.search.evopress_race import EvoPressRace
from sparsearch.search.quadratic import Quadratic
from sparsearch.search.random import RandomSearch
from sparsearch.seeds import spawn

__all__ = [
    "ALLOCATORS",
    "SEARCHERS",
    "Allocator",
    "Answer",
    "Evaluate",
    "Options",
    "Problem",
    "Progress",
    "Request",
    "Searcher",
    "Sense",
    "Steps",
    "check_searcher",
    "describe_searchers",
    "make_searcher",
]

SEARCHERS: dict[str, type[Searcher]] = {
    "uniform": Uniform,
    "erk": ERK,
    "layer_error": LayerError,
    "fisher": Fisher,
    "random": RandomSearch,
    "evopress": EvoPress,
    "evopress+race": EvoPressRace,
    "quadratic": Quadratic,
}
"""All searchers that a job file may name."""

ALLOCATORS: tuple[str, ...] = tuple(name for name, kind in SEARCHERS.items() if issubclass(kind, Allocator))
"""Names of those that need no evaluations."""


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
            "evaluates": not issubclass(searcher, Allocator),
        }
        for name, searcher in SEARCHERS.items()
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
