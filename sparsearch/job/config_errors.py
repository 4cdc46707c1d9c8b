"""Errors of the job file: one line each, with the field's full path, what was found and what is allowed."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from sparsearch.errors import ConfigError, did_you_mean

AnyModel = TypeVar("AnyModel", bound=BaseModel)

ALLOWED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text (put it in quotes if it looks like a number)",
    "path_type": "a path",
    "tuple_type": "a list, for example [a, b]",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "string_too_short": "text that is not empty",
    "too_short": "a list that is not empty",
}
"""What to tell about pydantic's error types."""


def line_error(*lines: str) -> PydanticCustomError:
    """For validators: an error whose `lines` go on behind the field's path (": found 3; allowed: ...")."""
    return PydanticCustomError("lines", "{lines}", {"lines": list(lines)})


def validate(section: type[AnyModel], given: Any, source: str) -> AnyModel:
    """`given` as a `section`.

    Raises:
        ConfigError: one line for each problem, all starting with `source`.
    """
    try:
        return section.model_validate(given)
    except ValidationError as error:
        problems = [line for detail in error.errors() for line in _lines(section, detail)]
        raise ConfigError("\n".join(f"{source}: {line}" for line in problems)) from None


def show(value: Any) -> str:
    """A value for a message, on one line and not too long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _lines(section: type[BaseModel], detail: ErrorDetails) -> list[str]:
    kind, context, path = detail["type"], detail.get("ctx", {}), _path(detail["loc"])
    if kind == "lines":
        return [f"{path}{line}" for line in context["lines"]]
    if kind == "missing":
        return [f"{path}: missing; add it"]
    if kind == "extra_forbidden":
        return [f"{path}: unknown key; {did_you_mean(str(detail['loc'][-1]), _fields(section, detail['loc']))}"]
    if kind == "literal_error":
        expected = re.findall(r"'([^']*)'", context["expected"])
        return [f"{path}: found {show(detail['input'])}; {did_you_mean(str(detail['input']), expected)}"]
    if kind == "greater_than_equal":
        return [f"{path}: found {show(detail['input'])}; allowed: a whole number of {context['ge']} or more"]
    return [f"{path}: found {show(detail['input'])}; allowed: {ALLOWED.get(kind, detail['msg'])}"]


def _path(location: tuple[int | str, ...]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")


def _fields(section: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that stand beside the one at `location`."""
    for part in location[:-1]:
        inner = section.model_fields[str(part)].annotation
        assert isinstance(inner, type) and issubclass(inner, BaseModel)
        section = inner
    return list(section.model_fields)
