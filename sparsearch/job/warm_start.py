"""The allocation that a search starts from: read from a profile once, then part of the job's config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.job.sections import StartLevel
from sparsearch.space import Allocation, Limits, Profile, SearchSpace
from sparsearch.space.wishes import fitted, is_tight


def read_start(path: str) -> dict[str, dict[str, Any]]:
    """Site to level and sparsity from the profile at `path`, as a job's `warm_start` holds them.

    The content goes into the config, not the path: so a resumed job starts where it did, whatever has become
    of the file.

    Raises:
        ConfigError: the file is missing, damaged or no profile.
    """
    if not Path(path).is_file():
        raise ConfigError(f"{path} does not exist; give the path of a profile, such as RUN/profiles/best.json")
    try:
        profile = Profile.load(path)
    except ResourceError as error:
        raise ConfigError(str(error)) from None
    return {site["name"]: {"level": site["level"], "sparsity": float(site["sparsity"])} for site in profile.sites}


def start_allocation(start: Mapping[str, StartLevel], space: SearchSpace, limits: Limits) -> Allocation:
    """The allocation of `space` that `start` stands for: its own levels where they meet and use up `limits`.

    Elsewhere (another budget, or another grid) the nearest allocation that does, `space.wishes.fitted`.

    Raises:
        ConfigError: its sites are not those of the space.
    """
    names = [site.name for site in space.sites]
    if odd := sorted(set(names) ^ start.keys()):
        where = "the search space" if odd[0] in start else "the profile"
        raise ConfigError(f"warm_start: site {odd[0]} is missing from {where}; give a profile of the same sites")
    labels = [[level.label for level in levels] for levels in space.levels]
    if all(start[name].level in known for name, known in zip(names, labels, strict=True)):
        same = Allocation.of(known.index(start[name].level) for name, known in zip(names, labels, strict=True))
        if is_tight(limits, same):
            return same
    return fitted(space, limits, np.array([start[name].sparsity for name in names]))


def start_warnings(
    start: Mapping[str, StartLevel] | None, space: SearchSpace, allocation: Allocation | None
) -> tuple[str, ...]:
    """What `start_allocation` had to change, as a sentence, if anything."""
    if start is None or allocation is None:
        return ()
    sites = Profile.of(space, allocation).sites
    moved = sum(site["level"] != start[site["name"]].level for site in sites)
    changes = (abs(site["sparsity"] - start[site["name"]].sparsity) for site in sites)
    if not moved:
        return ()
    return (
        f"warm_start: {moved} of {len(sites)} sites were moved, by up to {max(changes):.2%}, to levels of this space "
        "that use up this budget",
    )
