"""What a measured time depends on besides the product that was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
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


def other_machine(fingerprint: Mapping[str, str | int]) -> list[str]:
    """How the machine of `fingerprint` differs from this one, as `differences`; the threads are the table's own."""
    device, dtype = str(fingerprint.get("device")), str(fingerprint.get("dtype"))
    if device == "cuda" and not torch.cuda.is_available():
        return [f"accelerator is {fingerprint.get('accelerator')!r} there and there is none here"]
    own = {"threads": fingerprint.get("threads", 0)}
    return differences(fingerprint, machine_fingerprint(device, 0, dtype) | own)


def differences(there: Mapping[str, str | int], now: Mapping[str, str | int]) -> list[str]:
    """The entries that differ, in words."""
    return [
        f"{name} is {there.get(name)!r} there and {now.get(name)!r} now"
        for name in sorted({**there, **now})
        if there.get(name) != now.get(name)
    ]


def _processor() -> str:
    """The processor's name; where Linux does not tell it, what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, names), platform.processor() or platform.machine())
