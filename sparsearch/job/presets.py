"""The search spaces and objectives that ship with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.job.paths import absolute_paths, is_path
from sparsearch.job.yaml_file import parse_mapping, read_mapping

Kind = Literal["search_spaces", "objectives"]
FIELDS = {"search_spaces": "space", "objectives": "objective"}


def list_presets(kind: Kind) -> list[str]:
    """Names of the shipped presets, sorted."""
    entries = files(f"sparsearch.{kind}").iterdir()
    return sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml"))


def load_preset(kind: Kind, name_or_path: str) -> dict[str, Any]:
    """The content of a shipped preset, or of a YAML file; paths in that file start from its folder.

    Raises:
        ConfigError: no such preset or file, or not a mapping.
    """
    if is_path(name_or_path):
        path, field = Path(name_or_path), FIELDS[kind]
        return absolute_paths({field: read_mapping(path)}, path.parent)[field]
    names = list_presets(kind)
    if name_or_path not in names:
        raise ConfigError(
            f"{name_or_path!r} is no preset of {kind}; {did_you_mean(name_or_path, names)}; "
            "or give the path of a YAML file"
        )
    preset = files(f"sparsearch.{kind}") / f"{name_or_path}.yaml"
    return parse_mapping(preset.read_text(encoding="utf-8"), preset_source(kind, name_or_path))


def preset_source(kind: Kind, name_or_path: str) -> str:
    """What messages call a preset's file."""
    return name_or_path if is_path(name_or_path) else f"{kind}/{name_or_path}.yaml"


def describe_presets(kind: Kind) -> list[dict[str, Any]]:
    """Every preset by name with the first sentence of its comment and its content, for listings."""
    described = []
    for name in list_presets(kind):
        text = (files(f"sparsearch.{kind}") / f"{name}.yaml").read_text(encoding="utf-8")
        summary = text.splitlines()[0].lstrip("# ")
        described.append({"name": name, "summary": summary, "options": load_preset(kind, name)})
    return described
