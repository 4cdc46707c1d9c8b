"""What is measured for a model."""

from __future__ import annotations

import torch

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.hardware.measure import Plan
from sparsearch.model.load import load_model
from sparsearch.model.prunable import PrunableModel
from sparsearch.model.sites import find_sites
from sparsearch.space.level import level_grid

DEVICES = ("cpu", "cuda")
TOKENS, QUICK_TOKENS = (1, 4, 16, 64, 256), (1, 16)
LEVELS: tuple[float | str, ...] = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
QUICK_LEVELS: tuple[float | str, ...] = (0.5, 0.7, 0.9)
PATTERNS: tuple[float | str, ...] = ("2:4",)
"""Levels besides, on a device with hardware for them."""

ROUNDS, QUICK_ROUNDS = 15, 7
SAMPLE, QUICK_SAMPLE = 2e-3, 5e-4
LIMIT, QUICK_LIMIT = 30.0, 5.0
"""Seconds that the rounds of a whole model may last at one token count."""


def check_request(device: str, threads: int, tokens: tuple[int, ...]) -> None:
    """Refuses what cannot be measured, before a model is loaded.

    Raises:
        ConfigError: an option is out of its range.
        ResourceError: there is no such device.
    """
    if device not in DEVICES:
        raise ConfigError(f"--device: {device!r}; allowed: {', '.join(DEVICES)}")
    if threads < 1:
        raise ConfigError(f"--threads: {threads}; allowed: 1 or more")
    for count in tokens:
        if count < 1 or tokens.count(count) > 1:
            raise ConfigError(f"--tokens: {', '.join(map(str, tokens))}; allowed: numbers from 1, each once")
    if device == "cuda" and not torch.cuda.is_available():
        raise ResourceError("--device: torch finds no CUDA device here; measure with --device cpu")


def model_plan(
    model: str | None, *, device: str = "cpu", tokens: tuple[int, ...] = (), quick: bool = False
) -> tuple[PrunableModel, Plan]:
    """The model, and what is measured of it (`plan_of`).

    Args:
        model: a folder or a hub name; None is the embedded reference model.
        device: "cpu" (in float32, as models are computed there) or "cuda" (in the checkpoint's type).
        tokens: token counts; left out: 1 to 256, with `quick` 1 and 16.
        quick: fewer levels, rounds and token counts: a first look.
    """
    loaded = load_model(model, device="cpu")
    return loaded, plan_of(loaded, device=device, tokens=tokens, quick=quick)


def plan_of(model: PrunableModel, *, device: str = "cpu", tokens: tuple[int, ...] = (), quick: bool = False) -> Plan:
    """The distinct shapes of a model's sites, token counts and levels. Arguments as in `model_plan`."""
    levels = [*(QUICK_LEVELS if quick else LEVELS), *(PATTERNS if device == "cuda" else ())]
    return Plan(
        shapes=tuple(sorted({(site.shape[0], site.shape[1]) for site in find_sites(model)})),
        tokens=tuple(sorted(tokens)) or (QUICK_TOKENS if quick else TOKENS),
        levels=level_grid(levels),
        device=device,
        dtype=model.storage_dtype if device == "cuda" else torch.float32,
        rounds=QUICK_ROUNDS if quick else ROUNDS,
        sample=QUICK_SAMPLE if quick else SAMPLE,
    )
