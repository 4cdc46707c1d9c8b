"""The Python API below jobs: a space and a supernet for a model of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparsearch.job.prepare import checked_pruner, model_space
from sparsearch.model.panel import Panel
from sparsearch.model.prunable import PrunableModel
from sparsearch.space import SearchSpace, level_grid
from sparsearch.supernet import BuildPlan, Supernet
from sparsearch.supernet import build_supernet as build

DEFAULT_LEVELS: tuple[float, ...] = tuple(percent / 100 for percent in range(10, 100, 5))


def search_space(
    model: PrunableModel,
    levels: Sequence[float | str] = DEFAULT_LEVELS,
    targets: Sequence[str] = ("*",),
    ignore: Sequence[str] = (),
) -> SearchSpace:
    """The linear weights of `model` times `levels` (sparsities, `"2:4"`; dense is always one of them)."""
    return model_space(model, level_grid(list(levels)), targets, ignore)


def build_supernet(
    model: PrunableModel,
    space: SearchSpace,
    panel: Panel,
    folder: str | Path,
    pruner: str = "sparsegpt",
    options: Mapping[str, Any] | None = None,
    **build_options: Any,
) -> Supernet:
    """Builds (or completes, or just opens) the supernet of `space` in `folder`.

    Args:
        panel: calibration sequences, for example `Panel({"input_ids": ids})`.
        pruner: a name that `sparsearch ls pruners` shows, with its own `options`.
        build_options: `batch_size`, `workers`, `report` of `sparsearch.supernet.build_supernet`.
    """
    made = checked_pruner(pruner, options or {}, "pruner")
    return build(model, BuildPlan(space, made, panel), Path(folder), **build_options)
