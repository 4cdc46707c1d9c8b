"""Pruners: one file each; statistics of a site's input in, the variants of its weight out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .base import NM, Pattern, Pruned, Pruner, Statistics, Unstructured
from .magnitude import Magnitude
from .random import Random
from .refit import Refit
from .sparsegpt import SparseGPT
from .wanda import Wanda

__all__ = [
    "NM",
    "PRUNERS",
    "PRUNER_NAMES",
    "Pattern",
    "Pruned",
    "Pruner",
    "Statistics",
    "Unstructured",
    "describe_pruners",
    "make_pruner",
]

PRUNERS: dict[str, type[Random] | type[Magnitude] | type[Wanda] | type[SparseGPT]] = {
    "random": Random,
    "magnitude": Magnitude,
    "wanda": Wanda,
    "sparsegpt": SparseGPT,
}
"""The pruners that choose masks; each can be followed by `+refit`."""

PRUNER_NAMES: tuple[str, ...] = (*PRUNERS, *(f"{name}+refit" for name in PRUNERS))
"""Every name that `make_pruner` takes."""


def make_pruner(name: str, options: Mapping[str, Any]) -> Pruner:
    """The pruner called `name`, for example "sparsegpt" or "wanda+refit", with its `options`.

    Options that are left out have the defaults of the class; `+refit` takes those of both parts.

    Raises:
        ValueError: an unknown name or option, or a value that is not allowed; the message lists what is.
    """
    if name not in PRUNER_NAMES:
        raise ValueError(f"no pruner is called {name!r}; allowed: {', '.join(PRUNER_NAMES)}")
    chooser, _, refitted = name.partition("+")
    own = {field.name for field in fields(PRUNERS[chooser])}
    refit = {field.name for field in fields(Refit)} - {"chooser"} if refitted else set()
    for option in options:
        if option not in own | refit:
            allowed = ", ".join(sorted(own | refit)) or "none, it has no options"
            raise ValueError(f"pruner {name} has no option {option!r}; allowed: {allowed}")
    pruner = PRUNERS[chooser](**{key: value for key, value in options.items() if key in own})
    if not refitted:
        return pruner
    return Refit(pruner, **{key: value for key, value in options.items() if key in refit})


def describe_pruners() -> list[dict[str, Any]]:
    """Every pruner by name with its summary and its options' defaults, for listings."""
    described = []
    for name in PRUNER_NAMES:
        pruner = make_pruner(name, {})
        summary = (type(pruner).__doc__ or "").strip().splitlines()[0]
        parts: list[Any] = [pruner, pruner.chooser] if isinstance(pruner, Refit) else [pruner]
        options = {
            field.name: getattr(part, field.name) for part in parts for field in fields(part) if field.name != "chooser"
        }
        described.append({"name": name, "summary": summary, "options": options})
    return described
