"""Writing a run's profile as a file that other tools read: `sparsearch export RUN --recipe NAME --out FILE`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.export.recipe_evopress import NUM_LEVELS, LevelText, to_levels
from sparsearch.export.recipe_evopress_depth import depth_text
from sparsearch.export.recipe_llm_compressor import MODIFIERS, SPARSEGPT, llm_compressor_recipe
from sparsearch.export.run import chosen_profile, open_run
from sparsearch.files import write_json, write_text
from sparsearch.job.job import Job
from sparsearch.space import Profile


@dataclass(frozen=True)
class WrittenRecipe:
    """What was written.

    Attributes:
        files: the recipe first, then what lies beside it.
        sparsity: that the recipe asks for, over the sites.
        notes: sentences for the reader: what the format could not say.
    """

    files: tuple[Path, ...]
    profile: Profile
    sparsity: float
    notes: tuple[str, ...]


def export_recipe(
    job: Job | str | Path,
    out: str | Path,
    recipe: str,
    *,
    profile: str = "best",
    target: float | None = None,
    step: int | None = None,
) -> WrittenRecipe:
    """Writes a profile of a run as the file `out`; one that is there is replaced.

    Args:
        job: a job, or its run folder.
        out: the file.
        recipe: one of `RECIPES`.
        profile: `best`, `uniform`, or the path of a profile.
        target: for `evopress`, the sparsity of level 0; left out, the budget's.
        step: for `evopress`, weights between two levels; left out, `recipe_evopress.default_step`.

    Raises:
        SparsearchError: unknown recipe or profile, unfinished run, a profile that the format cannot hold, disk full.
    """
    if recipe not in RECIPES:
        raise ConfigError(f"--recipe: {recipe!r} is unknown; {did_you_mean(recipe, RECIPES)}")
    if recipe != "evopress" and (target, step) != (None, None):
        raise ConfigError(f"--target and --step: {recipe} has neither; allowed only with --recipe evopress")
    if Path(out).is_dir():
        raise ConfigError(f"--out: {out} is a folder; a recipe is a file, give its name")
    if not isinstance(job, Job):
        job = open_run(job)
    return RECIPES[recipe](_Request(job, chosen_profile(job.folder, profile), Path(out), target, step))


@dataclass(frozen=True, eq=False)
class _Request:
    job: Job
    profile: Profile
    out: Path
    target: float | None
    step: int | None


def sidecar_path(text: Path) -> Path:
    """Where the numbers lie that give EvoPress's level text `text` its meaning."""
    return text.with_name(f"{text.name}.json")


def _llm_compressor(request: _Request) -> WrittenRecipe:
    model, profile = request.job.prepared.model, request.profile
    modules = dict(model.module.named_modules())
    for site in profile.sites:
        linear = modules.get(site["name"])
        if linear is not None and not isinstance(linear, torch.nn.Linear):
            raise ConfigError(
                f"--recipe llm-compressor: {site['name']} is a {type(linear).__name__}, which that library's pruning "
                "passes over; use --layout dense"
            )
    pruner = request.job.config.space.pruner.name
    modifier = MODIFIERS.get(pruner, SPARSEGPT)
    text = llm_compressor_recipe(profile, list(modules), modifier)
    write_text(request.out, text)
    notes = [] if pruner in MODIFIERS else [f"llm-compressor has no pruner like {pruner}; the recipe uses {modifier}"]
    return WrittenRecipe((request.out,), profile, profile.sparsity, tuple(notes))


def _evopress(request: _Request) -> WrittenRecipe:
    profile, out = request.profile, request.out
    text = to_levels(profile, request.target, request.step)
    write_text(out, text.text())
    beside = text.sidecar() | {"profile_sparsity": profile.sparsity, "largest_change": _largest_change(profile, text)}
    write_json(sidecar_path(out), beside)
    return WrittenRecipe((out, sidecar_path(out)), profile, text.sparsity, _level_notes(profile, text))


def _largest_change(profile: Profile, text: LevelText) -> float:
    return max(abs(text.sparsities[site["name"]] - site["sparsity"]) for site in profile.sites)


def _level_notes(profile: Profile, text: LevelText) -> tuple[str, ...]:
    notes = [
        f"levels are whole steps of {text.step:,} weights from {text.target:g}: rounding changed the sparsity from "
        f"{profile.sparsity:.4%} to {text.sparsity:.4%}, of single layers by up to {_largest_change(profile, text):.2%}"
    ]
    if (most := max(map(abs, text.levels.values()))) > NUM_LEVELS:
        notes.append(f"levels reach {most}: build EvoPress's database with --num_levels {most} (its default is 8)")
    if patterned := sum(":" in site["level"] for site in profile.sites):
        notes.append(f"{patterned} layers have N:M levels, of which the text keeps the sparsity, not the pattern")
    return tuple(notes)


def _evopress_depth(request: _Request) -> WrittenRecipe:
    write_text(request.out, depth_text(request.profile))
    return WrittenRecipe((request.out,), request.profile, request.profile.sparsity, ())


RECIPES: dict[str, Callable[[_Request], WrittenRecipe]] = {
    "llm-compressor": _llm_compressor,
    "evopress": _evopress,
    "evopress-depth": _evopress_depth,
}
"""Name, as in `sparsearch export --recipe`, to the function that writes it."""
