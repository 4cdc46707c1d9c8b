"""The job file: reading it, changing it from the command line, writing it, and comparing two of them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparsearch.errors import ConfigError
from sparsearch.files import digest
from sparsearch.job.config_errors import show, validate
from sparsearch.job.hardware import read_hardware
from sparsearch.job.paths import absolute_paths
from sparsearch.job.presets import Kind, load_preset, preset_source
from sparsearch.job.sections import (
    DataConfig,
    ModelConfig,
    Named,
    ObjectiveConfig,
    PanelConfig,
    RunConfig,
    SpaceConfig,
)
from sparsearch.job.warm_start import read_start
from sparsearch.job.whole_job import JobConfig
from sparsearch.job.yaml_file import dump_yaml, parse_yaml, read_mapping
from sparsearch.search import SEARCHERS

__all__ = [
    "DataConfig",
    "JobConfig",
    "ModelConfig",
    "Named",
    "ObjectiveConfig",
    "PanelConfig",
    "RunConfig",
    "SpaceConfig",
    "config_difference",
    "dump_config",
    "identity",
    "load_config",
    "parse_config",
    "with_overrides",
]

DEFAULTS: dict[str, Any] = {"space": "unstructured", "objective": "kl", "searcher": "quadratic"}
PRESETS: dict[str, tuple[Kind, type[SpaceConfig] | type[ObjectiveConfig]]] = {
    "space": ("search_spaces", SpaceConfig),
    "objective": ("objectives", ObjectiveConfig),
}
NOT_RESULT = (
    "model.device",
    "supernet",
    "run.dir",
    "run.time_limit",
    "run.workers",
    "run.state_cache",
    "run.variant_cache",
)
"""Fields that say where, how long and on what a job runs, but do not change what it finds."""


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> JobConfig:
    """The job in the YAML file `path`, with `overrides` (`searcher.generations=50`) from the command line.

    Relative paths start from the folder of the file; those in overrides from the current folder. Without
    `run.dir` the run folder is `runs/NAME` beside the file `NAME.yaml`.

    Raises:
        ConfigError: one line for each problem.
    """
    path = Path(path)
    mapping = absolute_paths(read_mapping(path), path.parent)
    return parse_config(absolute_paths(with_overrides(mapping, overrides), Path.cwd()), str(path))


def parse_config(mapping: Mapping[str, Any], source: str = "job.yaml") -> JobConfig:
    """The job in a mapping with a job file's content; `source` is its path, or what messages call it.

    Raises:
        ConfigError: one line for each problem, starting with `source` or with the preset's file.
    """
    # An empty section (`searcher:` and nothing behind it) counts as left out.
    given = _defaults(mapping) | {"budget": {}} | {key: value for key, value in mapping.items() if value is not None}
    given = absolute_paths(given, Path(source).parent)
    for key, (kind, section) in PRESETS.items():
        name = given[key]
        if isinstance(name, str):
            with _prefix(f"{source}: {key}: "):
                content = load_preset(kind, name)
            given[key] = validate(section, content, preset_source(kind, name))
    if isinstance(given.get("warm_start"), str):
        with _prefix(f"{source}: warm_start: "):
            given["warm_start"] = read_start(given["warm_start"])
    budget = given["budget"]
    if isinstance(budget, dict) and isinstance(budget.get("hardware"), str):
        with _prefix(f"{source}: budget.hardware: "):
            given["budget"] = budget | {"hardware": read_hardware(budget["hardware"])}
    run = given.get("run", {})
    if isinstance(run, dict) and run.get("dir") is None:
        default = {"run": run | {"dir": f"runs/{Path(source).stem}"}}
        given |= absolute_paths(default, Path(source).parent)
    return validate(JobConfig, given, source)


def with_overrides(mapping: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of a job's mapping with `a.b=value` set for each override; values are YAML.

    A section that is given by name becomes a mapping first: a preset its content, a searcher its `name`. Those of the
    searcher are set first, since the objective that is meant without a name depends on it.

    Raises:
        ConfigError: an override without `=`, a value that is not YAML, or a key inside a value without keys.
    """
    changed = copy.deepcopy(dict(mapping))
    for override in sorted(overrides, key=lambda override: not override.startswith("searcher")):
        dotted, equals, text = override.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"-o {override}: not KEY=VALUE; write for example -o searcher.generations=50")
        if len(keys) > 1:
            changed[keys[0]] = _expanded(keys[0], changed.get(keys[0]), _defaults(changed))
        _set(changed, keys, parse_yaml(text, f"-o {override}"), override)
    return changed


@contextmanager
def _prefix(text: str) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{text}{error}") from None


def _defaults(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """What a job's mapping means by leaving sections out; the objective is the searcher's own."""
    searcher = mapping.get("searcher") or DEFAULTS["searcher"]
    name = searcher.get("name") if isinstance(searcher, Mapping) else searcher
    known = isinstance(name, str) and name in SEARCHERS
    return DEFAULTS | ({"objective": SEARCHERS[str(name)].objective} if known else {})


def _expanded(key: str, value: Any, defaults: Mapping[str, Any]) -> Any:
    """A section as a mapping that single keys can be set in."""
    value = defaults.get(key) if value is None else value
    if value is None or (key, value) == ("data", "builtin"):
        return {}
    if isinstance(value, str) and key in PRESETS:
        with _prefix(f"{key}: "):
            return load_preset(PRESETS[key][0], value)
    return {"name": value} if isinstance(value, str) and key in ("model", "searcher") else value


def _set(mapping: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    inner: Any = mapping
    for depth, key in enumerate(keys[:-1], 1):
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            path = ".".join(keys[:depth])
            raise ConfigError(f"-o {override}: {path} is {show(inner)}, which has no keys; set {path} as a whole")
    inner[keys[-1]] = value


def dump_config(config: JobConfig) -> str:
    """Canonical YAML: presets and defaults written out, paths absolute. Loading it gives `config` again."""
    return dump_yaml(config.model_dump(mode="json"))


def identity(config: JobConfig) -> dict[str, Any]:
    """The part that determines the result, as JSON-able data.

    Left out: the device, the time limit, the workers, and where the run folder and the supernet lie. Of a warm
    start and of a file of measured times it holds the digests.
    """
    result = config.model_dump(mode="json")
    for dotted in NOT_RESULT:
        *sections, last = dotted.split(".")
        inner = result
        for section in sections:
            inner = inner[section]
        del inner[last]
    del result["run"]
    if result["warm_start"] is not None:
        result["warm_start"] = digest(result["warm_start"])
    bounds = config.limits
    relative = {key: f"{amount.value!r}x" for key, amount in bounds.amounts.items() if amount.relative}
    absolute = {key: amount.value for key, amount in bounds.amounts.items() if not amount.relative}
    sparsity = {} if bounds.sparsity is None else {"sparsity": bounds.sparsity}
    machine: dict[str, Any] = {}
    if config.hardware is not None:
        machine = {"hardware_content": config.hardware.digest, "tokens": config.tokens}
    return result | {"budget": relative | absolute | sparsity | machine}


def config_difference(run: JobConfig, job: JobConfig, source: str = "job.yaml") -> list[str]:
    """How the identities of a run folder's config and a job's differ, one line a field."""
    left, right = dict(_flat(identity(run))), dict(_flat(identity(job)))
    return [
        f"{key}: {_shown(left, key)} in the run folder, {_shown(right, key)} in {source}"
        for key in left | right
        if left.get(key) != right.get(key)
    ]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from _flat(inner, f"{path}.{key}" if path else key)


def _shown(values: Mapping[str, Any], key: str) -> str:
    """A value as it would stand in a job file."""
    if key not in values:
        return "not set"
    return " ".join(dump_yaml(values[key]).removesuffix("...\n").split())
