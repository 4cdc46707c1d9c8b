"""sparsearch: deciding how much to prune where.

import sparsearch

job = sparsearch.Job.of({"budget": {"sparsity": 0.6}, "run": {"dir": "runs/first"}})
profile = job.search()
sparsearch.export(job, "pruned")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sparsearch.api import build_supernet, search_space
    from sparsearch.export.run import export_run as export
    from sparsearch.job.job import Job
    from sparsearch.model.load import load_model
    from sparsearch.space import Allocation, Budget, Profile, SearchSpace

# Importing torch and transformers takes seconds; `sparsearch --help` should not.
_HOMES = {
    "Allocation": "sparsearch.space",
    "Budget": "sparsearch.space",
    "Job": "sparsearch.job.job",
    "Profile": "sparsearch.space",
    "SearchSpace": "sparsearch.space",
    "build_supernet": "sparsearch.api",
    "export": "sparsearch.export",
    "load_model": "sparsearch.model.load",
    "search_space": "sparsearch.api",
}

__all__ = [
    "Allocation",
    "Budget",
    "Job",
    "Profile",
    "SearchSpace",
    "build_supernet",
    "export",
    "load_model",
    "search_space",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sparsearch' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    return home if name == "export" else getattr(home, name)
