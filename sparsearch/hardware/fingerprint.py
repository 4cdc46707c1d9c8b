"""What a measured time depends on besides the product that was measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from sparsearch.hardware import native


def machine_fingerprint(device: str, threads: int, dtype: str) -> dict[str, str | int]:
    """Processor, instructions, cores, threads, torch and types: times compare only where all are equal.

    Args:
        device: "cpu" or "cuda".
        threads: that torch and our kernels use.
        dtype: torch's name of the weights' type.
    """
    return {
        "accelerator": torch.cuda.get_device_name() if device == "cuda" else "none",
        "cores": os.cpu_count() or 0,
        "device": device,
        "dtype": dtype,
        "instructions": "not built" if native.unavailable() else native.level(),
        "processor": _processor(),
        "threads": threads,
        "torch": torch.__version__,
    }


def _processor() -> str:
    """The processor's name; where Linux does not tell it, what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, names), platform.processor() or platform.machine())
