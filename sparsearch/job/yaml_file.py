"""YAML as job files mean it: YAML 1.2 scalars, no surprises, errors with line and column."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from sparsearch.errors import ConfigError

FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")


class Loader(yaml.SafeLoader):
    """Reads text, numbers, true/false, null, lists and mappings, nothing else.

    PyYAML follows YAML 1.1, where an unquoted `2:4` is the number 124, `1e-3` is text and `no` is false; here
    the scalars are those of YAML 1.2. Duplicate keys and aliases are refused: one silently drops a value, the
    other lets a small file expand without bound.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node, which may not be an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not supported; write the value out", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are text and differ."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise _problem("a key that is not text; put it in quotes", key)
            if key.value in seen:
                raise _problem(f"key {key.value!r} stands twice; keep one", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def finite(self, node: Any) -> float:
        """A float that is a number."""
        value = float(self.construct_scalar(node))
        if not math.isfinite(value):
            raise _problem(f"{node.value} is too large for a number; put text in quotes", node)
        return value

    def refuse(self, node: Any) -> Any:
        """For every tag that is not one of the plain types."""
        raise _problem(f"the tag {node.tag} is not supported; use plain values", node)


def _problem(message: str, node: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


# Nothing of YAML 1.1 is inherited.
Loader.yaml_implicit_resolvers = {}
Loader.yaml_constructors = {}
for _name, _pattern, _first, _constructor in (
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""], Loader.construct_yaml_null),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"), Loader.construct_yaml_bool),
    ("int", re.compile(r"[-+]?[0-9]+\Z"), list("-+0123456789"), lambda loader, node: int(node.value)),
    ("float", FLOAT, list("-+.0123456789"), Loader.finite),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, _first)
    Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _constructor)
for _name in ("str", "seq", "map"):
    Loader.add_constructor(f"tag:yaml.org,2002:{_name}", getattr(Loader, f"construct_yaml_{_name}"))
Loader.add_constructor(None, Loader.refuse)


class Dumper(yaml.SafeDumper):
    """Writes what `Loader` and YAML 1.1 readers both take for the same value."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always: an equal value is written out again."""
        return True


# Text such as "1e9" is plain text to YAML 1.1 but a number to `Loader`, so it needs quotes.
Dumper.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+.0123456789"))


def parse_yaml(text: str, source: str) -> Any:
    """The value that `text` holds.

    Raises:
        ConfigError: not YAML, or YAML that job files do not use; names `source`, line and column.
    """
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{source}: {where}{_one_line(error.problem or error.context)}") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply; a job file needs at most a few levels") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source}: not valid YAML: {_one_line(error)}") from None


def parse_mapping(text: str, source: str) -> dict[str, Any]:
    """The mapping that `text` holds.

    Raises:
        ConfigError: not YAML, empty, or not a mapping.
    """
    value = parse_yaml(text, source)
    if value is None:
        raise ConfigError(f"{source}: the file is empty; write at least one 'key: value' line")
    if not isinstance(value, dict):
        kind = "a list" if isinstance(value, list) else "a single value"
        raise ConfigError(f"{source}: holds {kind}, not a mapping; write 'key: value' lines")
    return value


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in the YAML file `path`.

    Raises:
        ConfigError: the file is missing, unreadable, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; give the path of a YAML file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}); give a YAML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a YAML file") from None
    return parse_mapping(text, str(path))


def dump_yaml(value: Any) -> str:
    """Canonical YAML of plain data: key order kept, innermost lists and mappings on one line."""
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def _one_line(problem: object) -> str:
    return " ".join(str(problem).split())
