"""A whole job file, and what its budget may say."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.job.config_errors import line_error, show
from sparsearch.job.sections import (
    DataConfig,
    LocalPath,
    ModelConfig,
    Named,
    ObjectiveConfig,
    RunConfig,
    Section,
    Seed,
    SpaceConfig,
    StartLevel,
)
from sparsearch.space import Budget

BUDGETS = ("sparsity", "params", "bytes", "flops", "latency")
"""What a budget may bound. Listed here so that a typo is found before a model is loaded."""

MACHINE = ("hardware", "tokens")
"""What else a budget may say: the file of measured times, and what a latency is of."""


class Hardware(Section):
    """Where latencies come from: a file that `sparsearch measure` wrote, and what was in it when the job began."""

    file: LocalPath
    digest: str = Field(min_length=1)


class JobConfig(Section):
    """A whole job, presets and defaults filled in."""

    model: ModelConfig = ModelConfig()
    space: SpaceConfig
    objective: ObjectiveConfig
    data: DataConfig = DataConfig()
    budget: dict[str, int | float | str | Hardware]
    searcher: Named
    warm_start: dict[str, StartLevel] | None = Field(default=None, min_length=1)
    supernet: LocalPath | None = None
    run: RunConfig
    seed: Seed = 0

    @field_validator("budget", mode="before")
    @classmethod
    def _known_budget(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise line_error(f": found {value!r}; allowed: a mapping, for example {{sparsity: 0.6}}")
        bounds = value.keys() & {*BUDGETS}
        problems = (
            [] if value.keys() - {*MACHINE} else [" is empty; give at least one bound, for example sparsity: 0.6"]
        )
        for key, bound in value.items():
            try:
                if key not in (*BUDGETS, *MACHINE):
                    raise ConfigError(f".{key}: unknown key; {did_you_mean(key, (*BUDGETS, *MACHINE))}")
                if key in bounds:
                    Budget(**{key: bound})
            except ConfigError as error:
                problems.append(str(error).removeprefix("budget"))
        problems += _machine_problems(value)
        if problems:
            raise line_error(*problems)
        return dict(sorted(value.items()))

    @field_validator("warm_start", mode="before")
    @classmethod
    def _whole_start(cls, value: Any) -> Any:
        """A mapping is what `load_config` makes of a path, and what a run folder's config holds."""
        rows = value.values() if isinstance(value, dict) else [value]
        if value is None or all(isinstance(row, dict) and row.keys() == {"level", "sparsity"} for row in rows):
            return value
        raise line_error(f": found {show(value)}; allowed: the path of a profile, such as RUN/profiles/best.json")

    @property
    def limits(self) -> Budget:
        """The budget, to be resolved for a search space."""
        return Budget(**{key: bound for key, bound in self.budget.items() if key in BUDGETS})  # type: ignore[arg-type]

    @property
    def hardware(self) -> Hardware | None:
        """The file of measured times, if the budget names one."""
        found = self.budget.get("hardware")
        return found if isinstance(found, Hardware) else None

    @property
    def tokens(self) -> int:
        """What a latency is of: 1 for decoding one token, else a prefill of so many."""
        return int(self.budget.get("tokens", 1))  # type: ignore[arg-type]


def _machine_problems(budget: dict[str, Any]) -> list[str]:
    """What is wrong with the part of a budget that says where latencies come from."""
    problems, tokens = [], budget.get("tokens", 1)
    if "latency" in budget and "hardware" not in budget:
        problems.append(
            ".latency: nothing says what this machine takes; run sparsearch measure --out FILE and add hardware: FILE"
        )
    if "tokens" in budget and "hardware" not in budget:
        problems.append(".tokens: found without hardware; leave it out, or add hardware: FILE")
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        problems.append(f".tokens: found {show(tokens)}; allowed: a whole number of 1 or more")
    if "hardware" in budget and not (
        isinstance(budget["hardware"], dict) and {"file", "digest"} == {*budget["hardware"]}
    ):
        problems.append(
            f".hardware: found {show(budget['hardware'])}; allowed: the path of a file that sparsearch measure wrote"
        )
    return problems
