"""Relative paths of a job file are relative to the file's folder, wherever the command is run."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATHS = (
    ("supernet",), ("warm_start",), ("run", "dir"), ("space", "profile"), ("data", "files"), ("data", "tokens"),
    ("budget", "hardware"), ("budget", "hardware", "file"),
)  # fmt: skip
PRESETS = (("space",), ("objective",))
HUB_NAMES = (("model",), ("model", "name"), ("data", "dataset"))


def absolute_paths(mapping: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A copy of a job's mapping, not validated yet, whose relative paths start from `folder`.

    Names of presets stay; so do names of models and data sets, unless such a folder exists under `folder`.
    """
    mapping = copy.deepcopy(mapping)
    for keys in PATHS:
        _change(mapping, keys, lambda text: _absolute(text, folder))
    for keys in PRESETS:
        _change(mapping, keys, lambda text: _absolute(text, folder) if is_path(text) else text)
    for keys in HUB_NAMES:
        _change(mapping, keys, lambda text: _absolute(text, folder) if _is_local(text, folder) else text)
    return mapping


def is_path(preset: str) -> bool:
    """Whether a preset is given as a file rather than by name."""
    return preset.endswith((".yaml", ".yml")) or "/" in preset or os.sep in preset


def _absolute(text: str, folder: Path) -> str:
    return os.path.abspath(os.path.join(folder, os.path.expanduser(text))) if text else text


def _is_local(text: str, folder: Path) -> bool:
    return text.startswith(("/", "./", "../", "~")) or (text != "" and os.path.exists(os.path.join(folder, text)))


def _change(mapping: Any, keys: tuple[str, ...], change: Callable[[str], str]) -> None:
    """Replaces the text, or the texts of the list, at `keys`; anything else is left to validation."""
    for key in keys[:-1]:
        mapping = mapping.get(key) if isinstance(mapping, dict) else None
    if not isinstance(mapping, dict):
        return
    value = mapping.get(keys[-1])
    if isinstance(value, str):
        mapping[keys[-1]] = change(value)
    elif isinstance(value, list):
        mapping[keys[-1]] = [change(item) if isinstance(item, str) else item for item in value]
