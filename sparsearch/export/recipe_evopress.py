"""EvoPress's level text (`module: level` a line), both ways, with the numbers that give a level its meaning."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparsearch.errors import ConfigError
from sparsearch.space import Profile

FORMAT = "sparsearch-evopress/1"
STEP = 1_000_000  # weights, in the published configurations
NUM_LEVELS = 8  # a database has at most so many levels above and below the target unless it is told otherwise


@dataclass(frozen=True)
class LevelText:
    """EvoPress levels: `sparsity(module) = target + level * step / size`.

    The text alone has neither target nor step: they belong to the database that the levels were searched in.

    Attributes:
        levels: module to level, in the order of the text.
        target: sparsity of level 0.
        step: weights between two levels.
        sizes: module to number of weights.
    """

    levels: Mapping[str, int]
    target: float
    step: int
    sizes: Mapping[str, int]

    @property
    def sparsities(self) -> dict[str, float]:
        """Module to sparsity."""
        return {name: self.target + level * self.step / self.sizes[name] for name, level in self.levels.items()}

    @property
    def sparsity(self) -> float:
        """Fraction of all modules' weights gone."""
        return sum(value * self.sizes[name] for name, value in self.sparsities.items()) / sum(self.sizes.values())

    def text(self) -> str:
        """The lines as EvoPress writes them: no newline behind the last."""
        return "\n".join(f"{name}: {level}" for name, level in self.levels.items())

    def sidecar(self) -> dict[str, Any]:
        """What the text lacks, JSON-able."""
        sizes = dict(self.sizes)
        return {"format": FORMAT, "target": self.target, "step": self.step, "sizes": sizes, "sparsity": self.sparsity}


def to_levels(profile: Profile, target: float | None = None, step: int | None = None) -> LevelText:
    """The levels nearest to the profile's sparsities, of those that an EvoPress database of that grid can have.

    Args:
        profile: of linear sites; of N:M levels only the sparsity is kept.
        target: sparsity of level 0; left out, the profile's sparsity budget, or else what it has.
        step: weights between two levels; left out, `default_step`.

    Raises:
        ConfigError: a target or step that no database can have.
    """
    sizes = {site["name"]: math.prod(site["shape"]) for site in profile.sites}
    if target is None:
        target = float(profile.budget.get("sparsity", round(profile.sparsity, 4)))
    check_grid(target, default_step(sizes, 0.5) if step is None else step)
    step = default_step(sizes, target) if step is None else step
    levels = {}
    for site in profile.sites:
        low, high = level_range(target, step, sizes[site["name"]])
        level = round((site["sparsity"] - target) * sizes[site["name"]] / step)
        levels[site["name"]] = min(max(level, low), high)
    return LevelText(levels, target, step, sizes)


def default_step(sizes: Mapping[str, int], target: float) -> int:
    """The published 1,000,000 weights where that is at most a quarter of the smallest module, as it was there.

    For smaller models the rule by which EvoPress's `prune.py` fills its range when no step is given, with the
    smallest module in place of `hidden_size**2`: `0.5 * min(target, 1 - target) / 8 * size`.
    """
    smallest = min(sizes.values())
    if smallest // 4 >= STEP:
        return STEP
    return max(1, int(0.5 * min(target, 1 - target) / NUM_LEVELS * smallest))


def level_range(target: float, step: int, size: int) -> tuple[int, int]:
    """Least and most level of a module, by EvoPress's own rounding (`src/pruner.py`), its `num_levels` aside."""
    return -int(target // (step / size)), int((1 - target) // (step / size))


def check_grid(target: float, step: int) -> None:
    """Raises `ConfigError` for a target or step that no EvoPress database has."""
    if not 0 < target < 1:
        raise ConfigError(f"--target: {target:g} is not allowed; give the sparsity of level 0, between 0 and 1")
    if step < 1:
        raise ConfigError(f"--step: {step} is not allowed; give the weights between two levels, 1 or more")


def parse_levels(text: str, source: str, sizes: Mapping[str, int], target: float, step: int) -> LevelText:
    """Level text, checked line by line against a model.

    Args:
        text: the file's content; one newline at its end is allowed.
        source: what messages call the file.
        sizes: module to number of weights: the modules that the text has to name, each once.
        target: sparsity of level 0.
        step: weights between two levels.

    Raises:
        ConfigError: with the line number, what was found and what is allowed.
    """
    check_grid(target, step)
    lines: dict[str, int] = {}
    levels: dict[str, int] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        where = f"{source}: line {number}"
        name, level = _parse_line(line, where)
        if name in lines:
            raise ConfigError(f"{where}: {name} stands in line {lines[name]} already; keep one of them")
        if name not in sizes:
            raise ConfigError(f"{where}: {name} is no site of the search space; {_nearby(name, sizes)}")
        low, high = level_range(target, step, sizes[name])
        if not low <= level <= high:
            raise ConfigError(
                f"{where}: level {level} is a sparsity of {target + level * step / sizes[name]:.4g} at target "
                f"{target:g} and step {step:,}; allowed for the {sizes[name]:,} weights of {name}: {low} to {high}"
            )
        lines[name], levels[name] = number, level
    if missing := [name for name in sizes if name not in levels]:
        raise ConfigError(
            f"{source}: {len(missing)} of {len(sizes)} sites have no line, the first is {missing[0]}; "
            "give a file of the same model and layers"
        )
    return LevelText(levels, target, step, {name: sizes[name] for name in levels})


def parse_sidecar(content: Any, source: str, sizes: Mapping[str, int]) -> tuple[float, int]:
    """Target and step from a sidecar that `LevelText.sidecar` made, whose sizes must be those of the model.

    Raises:
        ConfigError: not a sidecar, or one of another model.
    """
    found = content.get("format") if isinstance(content, dict) else type(content).__name__
    if found != FORMAT:
        raise ConfigError(f"{source}: format is {found!r}, not {FORMAT!r}; delete it and give --target and --step")
    target, step = content.get("target"), content.get("step")
    if not isinstance(target, float) or type(step) is not int:
        raise ConfigError(f"{source}: target or step is missing or no number; delete it and give --target and --step")
    if content.get("sizes") != dict(sizes):
        raise ConfigError(f"{source}: sizes are not those of the model; give the file of the same model and layers")
    return target, step


def _parse_line(line: str, where: str) -> tuple[str, int]:
    match = re.fullmatch(r"([^\s:]+)\s*:\s*([+-]?\d{1,9})\s*", line)
    if match is None:
        raise ConfigError(f"{where}: found {line[:80]!r}; allowed: `module: level` with a whole number")
    return match[1], int(match[2])


def _nearby(name: str, sizes: Mapping[str, int]) -> str:
    """Modules of the same block, or of the first one: hundreds of names help nobody."""
    block = name.rpartition(".")[0].rpartition(".")[0]
    near = [other for other in sizes if block and other.startswith(f"{block}.")] or list(sizes)[:8]
    return f"allowed are, for example: {', '.join(near)}"
