"""From a job's config to everything that it needs, checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.evaluation.objectives import OBJECTIVES, Objective, OutputObjective, make_objective
from sparsearch.files import digest
from sparsearch.hardware.table import read_table
from sparsearch.job.config import JobConfig
from sparsearch.job.folder import RunFolder
from sparsearch.job.hardware import Priced, measured_file, priced
from sparsearch.job.warm_start import start_allocation, start_warnings
from sparsearch.model.load import load_model, load_tokenizer
from sparsearch.model.panel import Panels, make_panels
from sparsearch.model.prunable import PrunableModel
from sparsearch.model.sites import check_finite, find_sites, uncovered_fraction
from sparsearch.model.text import load_documents
from sparsearch.pruning import PRUNER_NAMES, Pruner, make_pruner
from sparsearch.search import ALLOCATORS, SEARCHERS, Problem, Searcher, check_searcher, make_searcher
from sparsearch.space import Allocation, Limits, Profile, SearchSpace, linear_space
from sparsearch.space.level import Level
from sparsearch.space.repair import uniform
from sparsearch.supernet import BuildPlan, Mixture, Supernet
from sparsearch.supernet.accumulation import Shown

DEFAULT_LENGTH = 256


@dataclass(frozen=True, eq=False)
class Prepared:
    """A job whose every part exists and fits the others; nothing is on disk yet.

    Attributes:
        objectives: the one that is minimised first, then those that are only reported.
        start: the job's warm start as a feasible allocation, if it has one.
        warnings: what the user should know before the work starts.
        priced: latencies, if the budget names a file of measured times.
    """

    config: JobConfig
    model: PrunableModel
    panels: Panels
    space: SearchSpace
    limits: Limits
    pruner: Pruner
    objectives: tuple[Objective, ...]
    start: Allocation | None
    warnings: tuple[str, ...]
    priced: Priced | None = None

    def problem(self, supernet: Supernet | None = None) -> Problem:
        """What a searcher sees; without a supernet no output errors."""
        errors = None if supernet is None else supernet.errors
        search, sensitive = self.panels.search, isinstance(self.objectives[0], OutputObjective)
        return Problem(self.space, self.limits, len(search), search.length, errors, self.start, sensitive)

    def searcher(self, supernet: Supernet | None = None) -> Searcher:
        """A fresh searcher, always the same one."""
        named = self.config.searcher
        return make_searcher(named.name, named.options, self.problem(supernet), self.config.seed)

    @cached_property
    def build_plan(self) -> BuildPlan:
        """What the supernet is made from."""
        return BuildPlan(self.space, self.pruner, self.panels.calibration, self._shown(self._propagated()))

    def plan_around(self, allocation: Allocation) -> BuildPlan:
        """The same, with `allocation` in the place of what `space.propagation` names."""
        return replace(self.build_plan, propagate=self._shown(allocation))

    @cached_property
    def fingerprint(self) -> str:
        """Of the supernet: equal for all jobs that may share it."""
        return digest(self.build_plan.identity(self.model))

    @property
    def supernet_folder(self) -> Path:
        """Where the supernet lies."""
        return self.config.supernet or self.config.run.dir.parent / "supernets" / self.fingerprint

    def folder_around(self, allocation: Allocation) -> Path:
        """Where the supernet of `plan_around` lies: beside the job's own, under its fingerprint."""
        return self.supernet_folder.parent / digest(self.plan_around(allocation).identity(self.model))

    def _shown(self, centre: Allocation | None) -> Shown | None:
        """What later blocks see of the ones before while a supernet is built around `centre`."""
        accumulation = self.config.space.accumulation
        return centre if accumulation == "none" else Mixture.around(self.space, accumulation, centre)

    def _propagated(self) -> Allocation | None:
        section = self.config.space
        if section.propagation == "uniform":
            return uniform(self.space, self.limits)
        if section.propagation == "allocation":
            assert section.profile is not None
            if not section.profile.is_file():
                raise ConfigError(f"space.profile: {section.profile} does not exist; give the path of a profile")
            return Profile.load(section.profile).allocation(self.space)
        return None


def prepare(config: JobConfig, strict: bool = False) -> Prepared:
    """Loads the model and the text, finds the sites, and checks every part of the job against the others.

    Args:
        config: the job.
        strict: refuse measured times that are of another machine or may be wrong otherwise, in place of a warning.

    Raises:
        SparsearchError: what is wrong, before anything is written.
    """
    check_names(config)
    model = load_model(
        config.model.name,
        dtype=config.model.dtype,
        device=config.model.device,
        revision=config.model.revision,
        trust_remote_code=config.model.trust_remote_code,
    )
    check_finite(model)
    objectives = _objectives(config, model)
    space = _space(config, model)
    found = _priced(config, model, space)
    if found is not None:
        space = found.space
        if strict and found.doubts:
            raise ConfigError(f"budget.hardware: {'; '.join(found.doubts)}; or run without --strict")
    limits = config.limits.limits(space)
    panels = _panels(config, model)
    given = config.warm_start
    start = None if given is None else start_allocation(given, space, limits)
    warnings = _warnings(model, space) + start_warnings(given, space, start)
    warnings += () if found is None else tuple(f"budget.hardware: {doubt}" for doubt in found.doubts)
    prepared = Prepared(config, model, panels, space, limits, job_pruner(config), objectives, start, warnings, found)
    # Made once for their checks: some options only fit some panels or spaces.
    rebuilds = prepared.searcher().rebuilds
    _ = prepared.build_plan
    if rebuilds and prepared.pruner.statistics == "none":
        raise ConfigError(
            f"searcher.rebuild: {prepared.pruner.name} looks at no inputs, so that it builds the same supernet again; "
            "leave it out, or use space.pruner: sparsegpt, wanda, or one followed by +refit"
        )
    if not rebuilds:
        return prepared
    more = f"the searcher has {rebuilds} more supernets built, each as large as the first one"
    return replace(prepared, warnings=(*warnings, more))


def check_names(config: JobConfig) -> None:
    """Checks what a job names, pruner, searcher, their options and objective, without loading anything.

    Raises:
        ConfigError: an unknown name or option, or two that do not go together.
    """
    pruner = job_pruner(config)
    named = config.searcher
    options = check_searcher(named.name, named.options)
    if config.space.accumulation != "none" and pruner.statistics == "none":
        raise ConfigError(
            f"space.accumulation: {pruner.name} looks at no inputs, so that no errors reach it; leave it out, or use "
            "space.pruner: sparsegpt, wanda, or one followed by +refit"
        )
    if config.warm_start is not None and not SEARCHERS[named.name].takes_start:
        able = ", ".join(name for name, searcher in SEARCHERS.items() if searcher.takes_start)
        raise ConfigError(
            f"warm_start: {named.name} does not start from a given allocation; leave it out, or choose one of {able}"
        )
    given = f" with {', '.join(f'{key}: {value}' for key, value in named.options.items())}" if named.options else ""
    objective = make_objective(config.objective.objective)
    if SEARCHERS[named.name].wants_sensitivities(options) and not isinstance(objective, OutputObjective):
        raise ConfigError(
            f"searcher.name: {named.name}{given} needs the objective's sensitivities, which {objective.name} does not "
            f"have, as it compares gradients itself; {_insensitive(named.name)}"
        )
    if SEARCHERS[named.name].wants_errors(options) and pruner.statistics != "gram":
        raise ConfigError(
            f"searcher.name: {named.name}{given} needs the layers' output errors, which {pruner.name} does not "
            "measure; use space.pruner: sparsegpt, or one followed by +refit"
        )


def _insensitive(name: str) -> str:
    """What would work in the place of the searcher `name` with an objective that has no sensitivities."""
    option = SEARCHERS[name].insensitive
    own = f"use searcher: {{name: {name}, {option}}}, or" if option else "use"
    able = [
        other
        for other, searcher in SEARCHERS.items()
        if other not in ALLOCATORS and not searcher.wants_sensitivities(searcher.options_type())
    ]
    differentiable = [each for each in OBJECTIVES if isinstance(make_objective(each), OutputObjective)]
    return f"{own} one of the searchers {', '.join(able)}, or objective: {' or '.join(differentiable)}"


def job_pruner(config: JobConfig) -> Pruner:
    """The pruner of the space section.

    Raises:
        ConfigError: an unknown pruner or option.
    """
    return checked_pruner(config.space.pruner.name, config.space.pruner.options, "space.pruner")


def checked_pruner(name: str, options: Mapping[str, Any], field: str) -> Pruner:
    """The pruner `name`; `field` is what messages call it.

    Raises:
        ConfigError: an unknown pruner or option, or a bad value.
    """
    if name not in PRUNER_NAMES:
        raise ConfigError(f"{field}: {name!r} is no pruner; {did_you_mean(name, PRUNER_NAMES)}")
    try:
        return make_pruner(name, options)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{field}: {error}") from None


def model_space(
    model: PrunableModel, grid: Sequence[Level], targets: Sequence[str] = ("*",), ignore: Sequence[str] = ()
) -> SearchSpace:
    """The search space of a model's linear weights.

    Outside the sites, `params` and `bytes` count every parameter once; `flops` counts matrix weights, of
    embeddings only those that serve as an output head.
    """
    sites = find_sites(model, targets, ignore)
    prunable = sum(site.size for site in sites)
    total = sum(parameter.numel() for parameter in model.module.parameters())
    multiplied = sum(p.numel() for block in model.blocks for p in block.parameters() if p.dim() > 1)
    get_head = getattr(model.module, "get_output_embeddings", lambda: None)
    head = get_head()
    multiplied += 0 if head is None else head.weight.numel()
    return linear_space(
        sites,
        grid,
        itemsize=model.storage_dtype.itemsize,
        other_params=total - prunable,
        other_flops=2 * (multiplied - prunable),
    )


def _space(config: JobConfig, model: PrunableModel) -> SearchSpace:
    try:
        return model_space(model, config.space.grid, config.space.targets, config.space.ignore)
    except ConfigError as error:
        raise ConfigError(f"space.{error}" if str(error).startswith(("targets", "ignore")) else str(error)) from None


def _priced(config: JobConfig, model: PrunableModel, space: SearchSpace) -> Priced | None:
    if config.hardware is None:
        return None
    table = read_table(measured_file(config.hardware, RunFolder(config.run.dir).hardware))
    return priced(space, model, table, config.hardware.file, config.tokens)


def panel_length(config: JobConfig, model: PrunableModel) -> int:
    """Tokens of a sequence: as asked, or 256 where the model takes as many.

    Raises:
        ConfigError: longer than the model's positions.
    """
    most = getattr(model.module.config, "max_position_embeddings", None)
    asked = config.objective.panel.length
    if asked is None:
        return min(DEFAULT_LENGTH, most or DEFAULT_LENGTH)
    if most is not None and asked > most:
        raise ConfigError(f"objective.panel.length: {asked} tokens, but {model.name} takes at most {most}")
    return asked


def _panels(config: JobConfig, model: PrunableModel) -> Panels:
    panel = config.objective.panel
    sizes = {"calibration": panel.calibration, "search": panel.search, "heldout": panel.heldout}
    name = config.model.name
    tokenizer = load_tokenizer(name, config.model.revision, config.model.trust_remote_code)
    return make_panels(load_documents(config.data.spec), tokenizer, panel_length(config, model), sizes, panel.seed)


def _objectives(config: JobConfig, model: PrunableModel) -> tuple[Objective, ...]:
    objective = make_objective(config.objective.objective)
    get_head = getattr(model.module, "get_output_embeddings", lambda: None)
    has_head = get_head() is not None
    if objective.needs_head and not has_head:
        raise ConfigError(
            f"objective: {objective.name} needs a language-modelling head, which {model.name} lacks; "
            "allowed for it: hidden"
        )
    if has_head and objective.name != "perplexity":
        return objective, make_objective("perplexity")
    return (objective,)


def _warnings(model: PrunableModel, space: SearchSpace) -> tuple[str, ...]:
    warnings = []
    missed = uncovered_fraction(model, space.sites)
    if missed > 0.05:
        warnings.append(
            f"{missed:.0%} of the blocks' weights are in no site and stay dense "
            "(fused experts and other parameters that are no linear layers, or what targets and ignore leave out)"
        )
    short = [site.name for site, levels in zip(space.sites, space.levels, strict=True) if len(levels) == 1]
    if short:
        warnings.append(f"{len(short)} sites fit none of the levels and stay dense, the first is {short[0]}")
    return tuple(warnings)
