"""What this machine offers."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path

PACKAGES = (
    "sparsearch",
    "torch",
    "transformers",
    "optuna",
    "pymoo",
    "numpy",
    "scipy",
    "joblib",
    "safetensors",
)


def examine() -> dict[str, str]:
    """Name to finding, in the order to show."""
    import torch

    from sparsearch.hardware.kernels import describe_kernels
    from sparsearch.reference import reference_path

    found = {"python": platform.python_version()}
    found |= {name: importlib.metadata.version(name) for name in PACKAGES}
    found["datasets"] = _optional("datasets", "data.dataset needs it: pip install 'sparsearch[hub]'")
    found["processor"] = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads"
    found["memory"] = _memory()
    found["disk"] = f"{shutil.disk_usage(Path.cwd()).free / 2**30:.1f} GiB free in {Path.cwd()}"
    found["cuda"] = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else "no device; everything runs on the CPU"
    )
    found["reference model"] = str(reference_path())
    for kernel in describe_kernels():
        reason = kernel["unavailable"]
        found[f"kernel {kernel['name']}"] = f"unavailable: {reason}" if reason else "available"
    return found


def _optional(name: str, hint: str) -> str:
    return importlib.metadata.version(name) if importlib.util.find_spec(name) else f"not installed ({hint})"


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (ValueError, OSError, AttributeError):
        return "unknown"
