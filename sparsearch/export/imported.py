"""Profiles from the files of other tools: `sparsearch import evopress FILE`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.export.recipe_evopress import STEP, LevelText, parse_levels, parse_sidecar
from sparsearch.export.recipe_evopress_depth import WORDS, depth_sparsities, is_inside, parse_depth
from sparsearch.export.recipes import sidecar_path
from sparsearch.export.run import open_run
from sparsearch.files import file_digest, read_json
from sparsearch.job.job import Job
from sparsearch.job.prepare import model_space
from sparsearch.job.sections import SpaceConfig
from sparsearch.model.load import load_model
from sparsearch.space import Budget, Limits, Profile, SearchSpace
from sparsearch.space.space import FloatArray
from sparsearch.space.wishes import nearest


@dataclass(frozen=True, eq=False)
class Place:
    """Where an imported allocation is to live.

    Attributes:
        limits: the job's budget; None where there is no job.
        budget: as text.
    """

    space: SearchSpace
    limits: Limits | None
    budget: dict[str, str]
    model: str

    @classmethod
    def of_run(cls, run: str | Path) -> Place:
        """Of a run folder, or of a job file that has not been run yet."""
        prepared = (Job.load(run) if Path(run).is_file() else open_run(run)).prepared
        return cls(prepared.space, prepared.limits, prepared.config.limits.describe(), prepared.model.name)

    @classmethod
    def of_model(cls, name: str) -> Place:
        """Of a model, with the default levels at all its sites."""
        model = load_model(name)
        return cls(model_space(model, SpaceConfig().grid), None, {}, model.name)


@dataclass(frozen=True)
class Imported:
    """What became of a file.

    Attributes:
        asked: sparsity over the sites that the file means; `profile.sparsity` is what the levels give.
        changed: sites whose sparsity was rounded to a level by a weight or more.
        largest_change: of a site's sparsity.
        met: whether the profile meets the budget; None where there is none.
    """

    profile: Profile
    asked: float
    changed: int
    largest_change: float
    met: bool | None


def import_evopress(path: str | Path, place: Place, target: float | None = None, step: int | None = None) -> Imported:
    """A profile of `place` from EvoPress's level text or depth text, whichever `path` holds.

    Each site takes its level with the nearest sparsity; nothing is repaired to a budget.

    Args:
        target: of level text, the sparsity of level 0; left out, that of the sidecar `FILE.json`.
        step: of level text, weights between two levels; left out, the sidecar's, or the published 1,000,000.

    Raises:
        ConfigError: a bad line, another model's file, or no target.
        ResourceError: the file is missing.
    """
    path = Path(path)
    text = _read(path)
    first = text.split("\n", 1)[0].strip()
    if first in WORDS:
        if (target, step) != (None, None):
            raise ConfigError(f"--target and --step: {path} is depth text, which has neither; leave them out")
        return _import_depth(path, text, place)
    sizes = {site.name: site.size for site in place.space.sites}
    target, step = _grid(path, sizes, target, step)
    levels = parse_levels(text, str(path), sizes, target, step)
    return _fit(place, _in_order(place.space, levels), path, {"target": target, "step": step}, target)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ResourceError(f"{path} does not exist; give a file that EvoPress wrote") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ResourceError(f"{path} cannot be read as text ({error}); give a file that EvoPress wrote") from None


def _grid(path: Path, sizes: dict[str, int], target: float | None, step: int | None) -> tuple[float, int]:
    """Target and step: as given, else the sidecar's, else the published step."""
    beside = sidecar_path(path)
    if beside.is_file() and None in (target, step):
        known_target, known_step = parse_sidecar(read_json(beside), str(beside), sizes)
        return known_target if target is None else target, known_step if step is None else step
    if target is None:
        raise ConfigError(
            f"--target: missing; {path.name} holds levels only, so give the sparsity that its database was built for"
        )
    return target, STEP if step is None else step


def _in_order(space: SearchSpace, levels: LevelText) -> FloatArray:
    sparsities = levels.sparsities
    return np.array([sparsities[site.name] for site in space.sites])


def _import_depth(path: Path, text: str, place: Place) -> Imported:
    sites = place.space.sites
    blocks = max((site.block for site in sites if is_inside(site.name, site.kind)), default=-1) + 1
    wishes = np.array(depth_sparsities(sites, parse_depth(text, str(path), blocks)))
    for site, levels, wish in zip(sites, place.space.levels, wishes, strict=True):
        if wish == 1 and levels[-1].sparsity < 1:
            raise ConfigError(
                f"{path}: {site.name} is to be dropped, but its sparsest level is {levels[-1].label}; "
                "add 1.0 to the job's space.levels"
            )
    return _fit(place, wishes, path, {}, None)


def _fit(place: Place, wishes: FloatArray, path: Path, grid: dict[str, float], target: float | None) -> Imported:
    """The profile with the nearest levels; without a job, `target` is the budget that it is held against."""
    space = place.space
    limits, budget = place.limits, place.budget
    if limits is None and target is not None:
        given = Budget(sparsity=target)
        limits, budget = given.limits(space), given.describe()
    allocation = nearest(space, wishes)
    sizes = np.array([site.size for site in space.sites])
    changes = np.abs(space.sparsities[np.arange(len(space)), allocation.array] - wishes)
    provenance = {"model": place.model, "searcher": "imported: evopress", "file": path.name, **grid}
    provenance["file_digest"] = file_digest(path)
    return Imported(
        Profile.of(space, allocation, budget=budget, provenance=provenance),
        float((wishes * sizes).sum() / sizes.sum()),
        int((changes * sizes >= 1).sum()),
        float(changes.max()),
        None if limits is None else limits.met(allocation),
    )
