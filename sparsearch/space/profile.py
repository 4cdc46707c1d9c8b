"""The answer of a job: allocation + budget + figures + provenance, as JSON or YAML."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.files import read_json, write_json, write_text
from sparsearch.space.allocation import Allocation
from sparsearch.space.space import SearchSpace

FORMAT = "sparsearch-profile/1"
SITE_FIELDS: dict[str, Any] = {
    "name": str, "kind": str, "block": int, "shape": list, "level": str, "sparsity": (int, float),
}  # fmt: skip


@dataclass(frozen=True)
class Profile:
    """An allocation that stands on its own, by site names and level labels.

    Attributes:
        sites: one mapping a site: name, kind, block, shape, level (label), sparsity (exact fraction gone).
        budget: the bounds it was searched under, as text.
        resources: resource to `{"dense": ..., "profile": ...}` of the whole model.
        figures: what was measured: objective values with intervals, tokens.
        provenance: model, fingerprints, searcher, seed, versions.
    """

    sites: tuple[dict[str, Any], ...]
    budget: dict[str, str]
    resources: dict[str, dict[str, float]]
    figures: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, space: SearchSpace, allocation: Allocation, **parts: Any) -> Profile:
        """The profile of `allocation`; `parts` are the remaining fields."""
        space.check(allocation)
        sites = tuple(
            {"name": site.name, "kind": site.kind, "block": site.block, "shape": list(site.shape),
             "level": level.label, "sparsity": level.removed(site.shape) / site.size}
            for site, level in space.chosen(allocation).items()
        )  # fmt: skip
        resources = {
            name: {"dense": space.cost(name, space.dense()), "profile": space.cost(name, allocation)}
            for name in space.resources
        }
        return cls(sites, parts.pop("budget", {}), resources, **parts)

    @property
    def sparsity(self) -> float:
        """Fraction of the sites' weights that are gone."""
        sizes = [math.prod(site["shape"]) for site in self.sites]
        removed = sum(size * site["sparsity"] for size, site in zip(sizes, self.sites, strict=True))
        return removed / sum(sizes)

    def allocation(self, space: SearchSpace) -> Allocation:
        """The level indices in `space`.

        Raises:
            ConfigError: the profile's sites or levels are not those of the space.
        """
        chosen = {site["name"]: site["level"] for site in self.sites}
        names = {site.name for site in space.sites}
        if chosen.keys() != names:
            odd = sorted(chosen.keys() ^ names)[0]
            where = "the search space" if odd in chosen else "the profile"
            raise ConfigError(
                f"profile: site {odd} is missing from {where}; use the space that the profile was made with"
            )
        indices = []
        for site, levels in zip(space.sites, space.levels, strict=True):
            labels = [level.label for level in levels]
            if chosen[site.name] not in labels:
                raise ConfigError(
                    f"profile: site {site.name} has level {chosen[site.name]!r}; the space offers {', '.join(labels)}"
                )
            indices.append(labels.index(chosen[site.name]))
        return Allocation.of(indices)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able content, `format` included."""
        return {
            "format": FORMAT, "sparsity": self.sparsity, "budget": self.budget, "resources": self.resources,
            "figures": self.figures, "provenance": self.provenance, "sites": list(self.sites),
        }  # fmt: skip

    def save(self, path: str | Path) -> None:
        """Writes JSON, or YAML where the name ends in `.yaml` or `.yml`. Equal profiles give equal bytes."""
        path = Path(path)
        if path.suffix in (".yaml", ".yml"):
            plain = json.loads(json.dumps(self.to_dict(), allow_nan=False))
            write_text(path, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
        else:
            write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Profile:
        """Reads what `save` wrote.

        Raises:
            ConfigError: the file is no profile, or one of its fields is missing or of the wrong type.
            ResourceError: the file is missing or damaged.
        """
        path = Path(path)
        content = _read_yaml(path) if path.suffix in (".yaml", ".yml") else read_json(path)
        return cls(**_checked(path, content))


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResourceError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ResourceError(f"{path} is not valid YAML ({reason}); give a profile that sparsearch wrote") from error


def _checked(path: Path, content: Any) -> dict[str, Any]:
    """The fields of a profile from untrusted JSON."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ConfigError(f"{path}: format is {found!r}, not {FORMAT!r}; give a profile that sparsearch wrote")
    sites = content.get("sites")
    if not isinstance(sites, list) or not sites:
        raise ConfigError(f"{path}: sites is missing or empty")
    for number, site in enumerate(sites):
        _check_site(f"{path}: sites[{number}]", site)
    names = [site["name"] for site in sites]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{path}: site {twice} is listed twice; list each site once")
    parts = {key: content.get(key, {}) for key in ("budget", "resources", "figures", "provenance")}
    for key, value in parts.items():
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: {key} is {type(value).__name__}, not a mapping")
    return {"sites": tuple({key: site[key] for key in SITE_FIELDS} for site in sites), **parts}


def _check_site(where: str, site: Any) -> None:
    for key, kind in SITE_FIELDS.items():
        if not isinstance(site, dict) or not isinstance(site.get(key), kind) or isinstance(site[key], bool):
            raise ConfigError(f"{where}.{key} is missing or of the wrong type")
    if not site["shape"] or not all(type(extent) is int and extent > 0 for extent in site["shape"]):
        raise ConfigError(f"{where}.shape is {site['shape']}; allowed: a list of positive integers")
    if not 0 <= site["sparsity"] <= 1:
        raise ConfigError(f"{where}.sparsity is {site['sparsity']}; allowed: 0 to 1")
