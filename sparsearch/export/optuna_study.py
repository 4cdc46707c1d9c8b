"""A job's evaluations as an Optuna study, for optuna-dashboard and Optuna's plots."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsearch.errors import ConfigError
from sparsearch.export.run import open_run
from sparsearch.files import write_atomic
from sparsearch.job.front import noted_resources
from sparsearch.job.job import Job
from sparsearch.job.journal import Evaluation, Journal
from sparsearch.space import Allocation, Profile, SearchSpace

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

MOST_TRIALS = 2000
"""Each takes 200 bytes a site in the file, 90 MB in all for 224 sites, and milliseconds to read."""


@dataclass(frozen=True)
class Mean:
    """An allocation's mean objective over the sequences that it was evaluated on."""

    allocation: Allocation
    value: float
    sequences: int


def export_study(job: Job | str | Path, out: str | Path) -> int:
    """Writes the evaluations of a run's search panel as an Optuna study, one trial an allocation.

    Allocations that do not meet the budget, which some searchers evaluate to learn from, are left out.
    The file is Optuna's journal (`JournalStorage(JournalFileBackend(out))`); the study is named like the run
    folder. A trial's parameters are the sites' sparsities, its value is the mean objective over the sequences
    that it was evaluated on. Where the searcher looks for a front, what the whole model costs in its resources
    are further values, and the study is a multi-objective one. Trials of a searcher that races or selects in
    stages rest on unequal sequences: the attributes `sequences` and `tokens` say on how many, `profile` which
    ones are `best`, `uniform` or `pareto:K`. Of more than 2000 allocations those on the most sequences are
    written. A run that is still going can be exported, too.

    Args:
        job: a job, or its run folder.
        out: a file that does not exist yet.

    Returns:
        The number of trials.

    Raises:
        SparsearchError: no run, nothing evaluated yet, `out` exists, or the disk is full.
    """
    if not isinstance(job, Job):
        job = open_run(job)
    out = Path(out)
    if out.exists():
        raise ConfigError(f"--out: {out} exists; choose another file or delete this one")
    prepared = job.prepared
    objective = prepared.objectives[0].name
    with Journal.read(job.folder.journal) as journal:
        known = mean_values(journal.rows(), "search", objective)
        resources = noted_resources(journal)
    means = most_evaluated([mean for mean in known if prepared.limits.met(mean.allocation)], MOST_TRIALS)
    if not means:
        raise ConfigError(
            f"{job.folder.path} has no evaluations within the budget yet; "
            "run sparsearch search with its config.yaml first"
        )
    front = {f"pareto:{index}": path for index, path in enumerate(job.folder.front)}
    named = {**front, "uniform": job.folder.uniform, "best": job.folder.best}
    profiles = {Profile.load(path).allocation(prepared.space): name for name, path in named.items() if path.exists()}
    trials = _trials(means, prepared.space, resources, profiles, prepared.panels.search.length)
    about = {
        "objective": objective,
        "searcher": job.config.searcher.name,
        "budget": job.config.limits.describe(),
        "seed": job.config.seed,
    }
    names, study = [objective, *resources], job.folder.path.resolve().name
    write_atomic(out, lambda temporary: _write(temporary, study, names, about, trials))
    return len(means)


def mean_values(rows: Iterable[Evaluation], panel: str, objective: str) -> list[Mean]:
    """Mean over all sequences that the journal knows for each allocation, in the order of first evaluation."""
    sums: dict[Allocation, tuple[float, int]] = {}
    for row in rows:
        if (row.panel, row.objective) == (panel, objective):
            total, count = sums.get(row.allocation, (0.0, 0))
            sums[row.allocation] = total + sum(row.values), count + len(row.values)
    return [Mean(allocation, total / count, count) for allocation, (total, count) in sums.items()]


def most_evaluated(means: list[Mean], most: int) -> list[Mean]:
    """Those on the most sequences, the earlier ones of equal ones, at most `most`; the order stays."""
    ranking = sorted(range(len(means)), key=lambda index: -means[index].sequences)
    return [means[index] for index in sorted(ranking[:most])]


def _trials(
    means: Iterable[Mean],
    space: SearchSpace,
    resources: Sequence[str],
    profiles: Mapping[Allocation, str],
    length: int,
) -> Iterator[FrozenTrial]:
    from optuna.distributions import BaseDistribution, FloatDistribution
    from optuna.trial import create_trial

    table = space.sparsities
    ranges: dict[str, BaseDistribution] = {
        site.name: FloatDistribution(0.0, float(table[index, :count].max()))
        for index, (site, count) in enumerate(zip(space.sites, space.counts, strict=True))
    }
    for mean in means:
        sparsities = (float(table[index, level]) for index, level in enumerate(mean.allocation.levels))
        attributes: dict[str, Any] = {"sequences": mean.sequences, "tokens": mean.sequences * length}
        if mean.allocation in profiles:
            attributes["profile"] = profiles[mean.allocation]
        yield create_trial(
            values=[mean.value, *(space.cost(name, mean.allocation) for name in resources)],
            params=dict(zip(ranges, sparsities, strict=True)),
            distributions=ranges,
            user_attrs=attributes,
        )


def _write(
    path: Path, name: str, values: Sequence[str], about: Mapping[str, Any], trials: Iterable[FrozenTrial]
) -> None:
    """A study of `trials` with the names of their `values`, all to be minimised."""
    import optuna
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        storage = JournalStorage(JournalFileBackend(str(path)))
        study = optuna.create_study(storage=storage, study_name=name, directions=["minimize"] * len(values))
    finally:
        optuna.logging.set_verbosity(verbosity)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names(list(values))
    for key, value in about.items():
        study.set_user_attr(key, value)
    study.add_trials(trials)
