"""One seed for a job, spawned per role, so that no role's draws depend on another's."""

from __future__ import annotations

import hashlib

import numpy as np


def spawn(seed: int, *role: str | int) -> np.random.Generator:
    """An independent generator for `role`, for example `spawn(0, "searcher")`.

    The stream depends on (seed, role) alone, not on how many others were spawned before.
    """
    return np.random.default_rng([seed, spawn_integer(0, *role)])


def spawn_integer(seed: int, *role: str | int) -> int:
    """A 63-bit integer seed for `role`, for libraries that want an integer (torch, optuna)."""
    text = "/".join([str(seed), *map(str, role)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
