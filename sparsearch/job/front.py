"""The front of a job: what it is searched in, and its points, read back from their profiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsearch.errors import ConfigError
from sparsearch.job.folder import RunFolder
from sparsearch.job.sections import Named
from sparsearch.search import check_searcher
from sparsearch.search.front import knee
from sparsearch.space import Profile


def front_point(folder: RunFolder, name: str, allowed: str) -> Profile:
    """The point of the run's front that `name` means: `pareto:K`, or `knee`.

    Args:
        allowed: what messages say may be given where there is no front.

    Raises:
        ConfigError: there is no front, or no such point on it.
    """
    done = folder.best.exists()
    points = [Profile.load(path) for path in folder.front] if done else []
    if not points:
        without = "it was not searched for one (nsga2 and nsga3 do, tpe and gp with resources)"
        what = without if done else "the search has not finished"
        raise ConfigError(f"--profile: {name}, but {folder.path} has no front: {what}; allowed: {allowed}")
    if name == "knee":
        return points[_knee(points)]
    named = {f"pareto:{index}": profile for index, profile in enumerate(points)}
    if name not in named:
        raise ConfigError(
            f"--profile: {name} is no point of the front; allowed: pareto:0 to pareto:{len(points) - 1}, or knee"
        )
    return named[name]


def searched_resources(searcher: Named) -> tuple[str, ...]:
    """The resources that the searcher of a job minimises beside the objective; none where it looks for no front."""
    options = check_searcher(searcher.name, searcher.options)
    return tuple(getattr(options, "resources", ()))


def _knee(points: Sequence[Profile]) -> int:
    """Index of the knee, by search values and the first resource."""
    found = [profile.figures["front"] for profile in points]
    name = found[0]["resources"][0]
    costs = np.array([profile.resources[name]["profile"] for profile in points])
    return knee(np.array([each["objective"] for each in found]), costs)
