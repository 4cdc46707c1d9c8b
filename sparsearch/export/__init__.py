"""Checkpoints from profiles: one file a format, and a check that what was written is what was meant.

The package can be called: `sparsearch.export(job, out)` is `sparsearch.export.run.export_run(job, out)`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    """A package and the verb of the same name; `run` is imported late, as the verifying child needs only `verify`."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        from sparsearch.export.run import export_run

        return export_run(*args, **options)


sys.modules[__name__].__class__ = _CallablePackage
