"""Objectives by name."""

from __future__ import annotations

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.evaluation.objectives.base import Objective, OutputObjective, Outputs, TraceObjective
from sparsearch.evaluation.objectives.cross_entropy import CrossEntropy
from sparsearch.evaluation.objectives.hidden import HiddenError
from sparsearch.evaluation.objectives.kl import KL
from sparsearch.evaluation.objectives.trace import GradientTrace

OBJECTIVES: dict[str, type[Objective]] = {
    "kl": KL,
    "perplexity": CrossEntropy,
    "hidden": HiddenError,
    "trace": GradientTrace,
}


def make_objective(name: str) -> Objective:
    """The objective called `name`.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"objective: {name!r} is unknown; {did_you_mean(name, OBJECTIVES)}")
    return OBJECTIVES[name]()


__all__ = ["OBJECTIVES", "Objective", "OutputObjective", "Outputs", "TraceObjective", "make_objective"]
