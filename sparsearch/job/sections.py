"""The sections of a job file and their checks, but for the budget."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.job.config_errors import line_error
from sparsearch.job.units import parse_duration, parse_memory
from sparsearch.space import Level, level_grid

MAX_LEVELS = 254
"""Levels besides dense: one byte a weight says at which of them the weight dies."""

Count = Annotated[int, Field(strict=True, ge=1)]
Seed = Annotated[int, Field(strict=True, ge=0)]
Switch = Annotated[bool, Field(strict=True)]
Patterns = tuple[str, ...]


def _path(value: Any) -> Any:
    if value == "":
        raise line_error(": found ''; allowed: a path")
    return value


LocalPath = Annotated[Path, BeforeValidator(_path)]


class Section(BaseModel):
    """Base of all sections: unknown keys are refused, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Named(Section):
    """Something with a name and options of its own, which whoever owns the name validates."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @property
    def options(self) -> dict[str, Any]:
        """The options, by name."""
        return dict(sorted((self.model_extra or {}).items()))

    @model_serializer
    def _ordered(self) -> dict[str, Any]:
        return {"name": self.name, **self.options}


class ModelConfig(Section):
    """Which model; without a name the embedded reference model."""

    name: str | None = Field(default=None, min_length=1)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = Field(default="auto", min_length=1)
    revision: str | None = None
    trust_remote_code: Switch = False

    @model_validator(mode="before")
    @classmethod
    def _bare_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class SpaceConfig(Section):
    """What may vary: sites, levels, and the pruner that makes the variants.

    `levels` holds the grid without the dense level, from least to most sparse, however it was given.
    """

    levels: tuple[float | str, ...] = tuple(percent / 100 for percent in range(10, 100, 5))
    pruner: Named = Named(name="sparsegpt")
    targets: Patterns = ("*",)
    ignore: Patterns = ()
    propagation: Literal["dense", "uniform", "allocation"] = "dense"
    accumulation: Literal["none", "uniform", "expectation"] = "none"
    profile: LocalPath | None = Field(default=None, validate_default=True)

    @property
    def grid(self) -> tuple[Level, ...]:
        """The levels from dense to sparsest."""
        return level_grid(list(self.levels))

    @field_validator("levels", mode="before")
    @classmethod
    def _normal_levels(cls, value: Any) -> Any:
        given = _level_range(value) if isinstance(value, dict) else value
        if not isinstance(given, list | tuple):
            raise line_error(f": found {given!r}; allowed: a list ([0.5, '2:4']) or a range {{start, stop, step}}")
        try:
            grid = level_grid(list(given))[1:]
        except ConfigError as error:
            raise line_error(str(error).removeprefix("levels")) from None
        if len(grid) > MAX_LEVELS:
            raise line_error(f": found {len(grid)} levels; allowed: at most {MAX_LEVELS} besides dense")
        return tuple(level.label if level.group else float(level.label) for level in grid)

    @field_validator("profile")
    @classmethod
    def _profile_with_allocation(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        propagation = info.data.get("propagation", "allocation" if value else "dense")
        if propagation == "allocation" and value is None:
            raise line_error(": missing; propagation: allocation needs the path of a profile")
        if propagation != "allocation" and value is not None:
            raise line_error(f": found with propagation: {propagation}; allowed only with propagation: allocation")
        return value


def _level_range(given: dict[str, Any]) -> list[float | str]:
    """`{start, stop, step}` as a list, exact in decimals; `stop` is included where a step lands on it."""
    keys = ("start", "stop", "step")
    if set(given) != set(keys):
        odd = next((key for key in given if key not in keys), None)
        hint = "give start, stop and step" if odd is None else f"{odd!r} is unknown; {did_you_mean(odd, keys)}"
        raise line_error(f": found a range of {', '.join(given) or 'nothing'}; {hint}")
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in given.values()):
        raise line_error(f": found {given}; allowed: numbers, for example start: 0.1, stop: 0.95, step: 0.05")
    start, stop, step = (Decimal(str(given[key])) for key in keys)
    if not (0 <= start <= stop <= 1 and step > 0):
        raise line_error(f": found {given}; allowed: 0 <= start <= stop <= 1 and a step above 0")
    count = math.floor((stop - start) / step) + 1
    if count > MAX_LEVELS + 1:
        raise line_error(f": found {count} levels; allowed: at most {MAX_LEVELS} besides dense")
    return [float(start + index * step) for index in range(count)]


class PanelConfig(Section):
    """Sequences in each panel, tokens in a sequence (null: 256, or what the model takes if less), the draw.

    The seed is apart from the job's, so that jobs with other seeds share a supernet and held-out figures. Of
    held-out sequences it takes two, as one has no confidence interval.
    """

    length: Annotated[int, Field(strict=True, ge=2)] | None = None
    calibration: Count = 128
    search: Count = 256
    heldout: Annotated[int, Field(strict=True, ge=2)] = 128
    seed: Seed = 0


class ObjectiveConfig(Section):
    """What is minimised, and on how much text."""

    objective: Literal["kl", "perplexity", "hidden", "trace"] = "kl"
    panel: PanelConfig = PanelConfig()


class DataConfig(Section):
    """Where text comes from: one of files, dataset and tokens, or none of them for the built-in text."""

    files: tuple[LocalPath, ...] | None = Field(default=None, min_length=1)
    dataset: str | None = Field(default=None, min_length=1)
    subset: str | None = None
    split: str | None = None
    column: str | None = None
    tokens: LocalPath | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        if value == "builtin":
            return {}
        if not isinstance(value, dict):
            raise line_error(f": found {value!r}; allowed: builtin, or a mapping with files, dataset or tokens")
        unknown = value.keys() - cls.model_fields.keys()
        given = [key for key in ("files", "dataset", "tokens") if value.get(key) is not None]
        if value and len(given) != 1 and not unknown:
            found = " and ".join(given) or "none of them"
            raise line_error(f": found {found}; allowed: builtin, or exactly one of files, dataset and tokens")
        for key in ("subset", "split", "column"):
            if given in (["files"], ["tokens"]) and value.get(key) is not None:
                raise line_error(f": found {key} with {given[0]}; allowed only with dataset")
        return value

    @property
    def spec(self) -> str | dict[str, Any]:
        """`"builtin"`, or the fields that were given: what `load_documents` takes."""
        given = {
            "files": None if self.files is None else [str(file) for file in self.files],
            "dataset": self.dataset,
            "subset": self.subset,
            "split": self.split,
            "column": self.column,
            "tokens": None if self.tokens is None else str(self.tokens),
        }
        return {key: value for key, value in given.items() if value is not None} or "builtin"

    @model_serializer
    def _spec(self) -> str | dict[str, Any]:
        return self.spec


class StartLevel(Section):
    """One site of a warm start: the level's label, and its sparsity for spaces that lack the level."""

    level: str = Field(min_length=1)
    sparsity: Annotated[float, Field(strict=True, ge=0, le=1)]


class RunConfig(Section):
    """Where and how long it runs: nothing here changes the result.

    Attributes:
        state_cache: bytes for the hidden states that candidates of an evaluation share.
        variant_cache: bytes for variants that were decoded.
    """

    dir: LocalPath
    time_limit: float | None = None
    workers: Count | None = None
    state_cache: int = 2**31
    variant_cache: int = 2**30

    @field_validator("state_cache", "variant_cache", mode="before")
    @classmethod
    def _bytes(cls, value: Any) -> int:
        try:
            return parse_memory(value, "")
        except ConfigError as error:
            raise line_error(str(error)) from None

    @field_validator("time_limit", mode="before")
    @classmethod
    def _seconds(cls, value: Any) -> float | None:
        try:
            return None if value is None else parse_duration(value, "")
        except ConfigError as error:
            raise line_error(str(error)) from None
