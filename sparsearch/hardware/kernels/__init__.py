"""Kernel backends, one file each, by name."""

from __future__ import annotations

from sparsearch.hardware.kernels.base import Backend, Packed
from sparsearch.hardware.kernels.dense import Dense

__all__ = ["BACKENDS", "Backend", "Packed"]

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Dense(),)}
"""All backends, available here or not."""
