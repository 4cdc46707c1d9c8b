"""A job: build, search and compare, from a config to a run folder. The same call again resumes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import sparsearch
from sparsearch.evaluation.evaluator import Evaluator, Spent
from sparsearch.job.baselines import allocator_rows
from sparsearch.job.comparison import Candidate, compare, curve
from sparsearch.job.config import JobConfig, load_config, parse_config
from sparsearch.job.events import Announcer, Listener, silent
from sparsearch.job.folder import RunFolder
from sparsearch.job.front import FRONT_POINTS, note_front
from sparsearch.job.journal import Journal, Totals
from sparsearch.job.lock import RunLock
from sparsearch.job.loop import JournaledEvaluations, SearchLoop
from sparsearch.job.plan import Plan, check_disk, make_plan
from sparsearch.job.prepare import Prepared, prepare
from sparsearch.job.stop import StopRequest
from sparsearch.job.supernets import REBUILT, Supernets, batch_size, search_totals
from sparsearch.model.panel import Panel
from sparsearch.search import Progress
from sparsearch.search.front import thin
from sparsearch.space import Allocation, Profile
from sparsearch.space.repair import uniform
from sparsearch.supernet import Supernet, Switcher


class Job:
    """One run folder and what happens in it.

    Args:
        config: from `load_config`, `Job.load` or `Job.of`.
        listener: is told every step.
        strict: refuse measured times that may be wrong here, in place of a warning.
    """

    def __init__(self, config: JobConfig, listener: Listener = silent, strict: bool = False) -> None:
        self.config = config
        self.strict = strict
        self.folder = RunFolder(config.run.dir)
        self.listener = listener

    @classmethod
    def load(cls, path: str | Path, overrides: tuple[str, ...] = (), listener: Listener = silent) -> Job:
        """A job from a YAML file."""
        return cls(load_config(path, overrides), listener)

    @classmethod
    def of(cls, mapping: Mapping[str, Any], listener: Listener = silent) -> Job:
        """A job from a mapping with the content of a job file; paths are relative to the current folder."""
        return cls(parse_config(mapping), listener)

    @cached_property
    def prepared(self) -> Prepared:
        """Model, panels, space, budget and searcher, checked."""
        return prepare(self.config, self.strict)

    def plan(self) -> Plan:
        """What the job will do and cost. Writes nothing."""
        return make_plan(self.prepared)

    def build(self) -> Supernet:
        """Builds the supernet, or what is missing of it.

        Raises:
            SparsearchError: bad config, conflict, too little disk, or stopped (then the same call resumes).
        """
        with self._running() as running:
            return running.build()

    def search(self) -> Profile:
        """Builds what is missing, searches, compares on held-out text and writes the profiles.

        Raises:
            SparsearchError: as `build`.
        """
        with self._running() as running:
            return running.search()

    def evaluate(self, profiles: Mapping[str, Profile]) -> dict[str, Any]:
        """Measures profiles on the held-out panel beside the dense model; the run must have a supernet.

        Returns:
            The comparison as `sparsearch.job.comparison.compare` gives it.
        """
        with self._running() as running:
            return running.evaluate(profiles)

    @contextmanager
    def _running(self) -> Iterator[_Running]:
        """The run folder, locked and claimed; nothing is touched before every check has passed."""
        self.folder.check(self.config)
        prepared = self.prepared
        check_disk(prepared, prepared.supernet_folder)
        with ExitStack() as stack:
            stack.enter_context(RunLock(self.folder.path))
            self.folder.claim(self.config)
            journal = stack.enter_context(Journal.create_or_open(self.folder.journal))
            stop = stack.enter_context(StopRequest(self.config.run.time_limit))
            yield _Running(prepared, self.folder, journal, stop, Announcer(self.listener, journal, self.folder.log))


class _Running:
    """The stages of a job that holds its run folder."""

    def __init__(
        self, prepared: Prepared, folder: RunFolder, journal: Journal, stop: StopRequest, announce: Announcer
    ) -> None:
        self.prepared = prepared
        self.folder = folder
        self.journal = journal
        self.stop = stop
        self.announce = announce
        self.supernets = Supernets(prepared, journal, stop, announce)

    def build(self) -> Supernet:
        """The build stage."""
        for warning in self.prepared.warnings:
            self.announce.line("build", f"warning: {warning}")
        return self.supernets.own()

    def search(self) -> Profile:
        """The search and compare stages."""
        supernet = self.build()
        prepared = self.prepared
        switcher = Switcher(prepared.model, supernet)
        try:
            evaluations = self._evaluations(switcher, prepared.panels.search, "search", only_main=True)

            def report(progress: Progress, tokens: float) -> None:
                """Tells how far the search is, and ends it where it is to stop."""
                self.announce.progress("search", progress.done, progress.total, f"{tokens:,.0f} tokens")
                self.stop.check(progressed=evaluations.computed > 0)

            loop = SearchLoop(prepared.searcher(supernet), evaluations, report, self.supernets.around)
            note_front(self.journal, loop.searcher, prepared.objectives[0])
            begun = time.perf_counter()
            try:
                best = loop.run()
            finally:
                self._note_usage(loop, evaluations.evaluator.spent, time.perf_counter() - begun)
            if loop.rebuilt is not None:
                self.journal.set_fact(REBUILT, list(loop.rebuilt.levels))
            why = f": {loop.searcher.outcome}" if loop.searcher.outcome else ""
            self.announce.line("search", f"{loop.searcher.name} is done after {loop.tokens:,.0f} evaluated tokens{why}")
            cost = self._search_cost(loop)
            return self._compare(loop, best, cost, switcher, evaluations)
        finally:
            switcher.restore()

    def evaluate(self, profiles: Mapping[str, Profile]) -> dict[str, Any]:
        """Any profiles on the held-out panel."""
        space = self.prepared.space
        found = {name: profile.allocation(space) for name, profile in profiles.items()}
        switcher = Switcher(self.prepared.model, self.build())
        try:
            heldout = self._evaluations(switcher, self.prepared.panels.heldout, "heldout", only_main=False)
            if (last := self.supernets.last()) is not None:
                heldout.move_to(last)
            rows = [
                Candidate("dense", space.dense()),
                *(Candidate(name, allocation) for name, allocation in found.items()),
            ]
            return compare(rows, heldout, space, self.prepared.config.seed)
        finally:
            switcher.restore()

    def _note_usage(self, loop: SearchLoop, spent: Spent, seconds: float) -> None:
        """Adds what this process spent on the search to what earlier ones did."""
        inside = spent.forward_seconds + spent.switch_seconds + loop.searcher_seconds + loop.rebuild_seconds
        usage = {
            "forward tokens": spent.forward_tokens,
            "backward tokens": spent.backward_tokens,
            "tokens saved by prefix reuse": spent.reused_tokens,
            "tokens saved by the memo": loop.memo_tokens,
            "seconds in forwards and backwards": spent.forward_seconds,
            "seconds in switching": spent.switch_seconds,
            "seconds in the searcher": loop.searcher_seconds,
            "seconds in rebuilding supernets": loop.rebuild_seconds,
            "seconds elsewhere": seconds - inside,
        }
        before = self.journal.fact("usage", {})
        self.journal.set_fact("usage", {name: value + before.get(name, 0.0) for name, value in usage.items()})

    def _search_cost(self, loop: SearchLoop) -> Totals:
        """What the search has cost; noted before the allocators add to its panel, so that a resume changes nothing."""
        cost = self.journal.fact("search_cost")
        if cost is None:
            cost = asdict(search_totals(self.journal))
            for paid in (loop.sensitivities, loop.statistics):
                cost["forward_tokens"] += paid.forward_tokens
                cost["seconds"] += paid.seconds
            self.journal.set_fact("search_cost", cost)
        return Totals(**cost)

    def _compare(
        self,
        loop: SearchLoop,
        best: Allocation,
        cost: Totals,
        switcher: Switcher,
        evaluations: JournaledEvaluations,
    ) -> Profile:
        prepared, seed = self.prepared, self.prepared.config.seed
        self.announce.progress("compare", 0, 2)
        allocators = allocator_rows(prepared.problem(switcher.supernet), evaluations, seed)
        heldout = self._evaluations(switcher, prepared.panels.heldout, "heldout", only_main=False)
        # All rows and the curve are measured on the supernet that the search ended with.
        heldout.supernet = evaluations.supernet
        level = uniform(prepared.space, prepared.limits)
        found = Candidate(f"searched: {loop.searcher.name}", best, cost.seconds, cost.forward_tokens)
        candidates = [
            Candidate("dense", prepared.space.dense()),
            Candidate("uniform", level),
            *allocators,
            found,
        ]
        comparison = compare(candidates, heldout, prepared.space, seed)
        self.announce.progress("compare", 1, 2)
        comparison["curve"] = curve(loop.milestones, {"uniform": level}, heldout, seed)
        self.journal.set_fact("comparison", comparison)
        # By these `sparsearch compare` finds its held-out values without a search space.
        self.journal.set_fact("found", list(best.levels))
        self.journal.set_fact("found_panel", heldout.key)
        self.announce.progress("compare", 2, 2)
        self._write_front(loop, level, heldout)
        return self._write_profiles(comparison, best, level, loop)

    def _write_front(self, loop: SearchLoop, level: Allocation, heldout: JournaledEvaluations) -> None:
        """The profiles of the searcher's front, each measured beside the dense model and the uniform allocation."""
        if loop.searcher.front is None:
            return
        prepared = self.prepared
        front = thin(loop.searcher.front, FRONT_POINTS)
        for index, (allocation, value) in enumerate(zip(front.allocations, front.values.tolist(), strict=True)):
            rows = [
                Candidate("dense", prepared.space.dense()),
                Candidate("uniform", level),
                Candidate(f"searched: {loop.searcher.name}", allocation),
            ]
            figures = self._figures(compare(rows, heldout, prepared.space, prepared.config.seed), loop)
            figures["front"] = {"resources": list(front.names), "objective": value}
            self._profile(allocation, loop.searcher.name, loop, figures).save(self.folder.pareto(index))

    def _write_profiles(
        self, comparison: dict[str, Any], best: Allocation, level: Allocation, loop: SearchLoop
    ) -> Profile:
        profile = self._profile(best, loop.searcher.name, loop, self._figures(comparison, loop))
        profile.save(self.folder.best)
        self._profile(level, "uniform", loop, {}).save(self.folder.uniform)
        return profile

    def _profile(self, allocation: Allocation, searcher: str, loop: SearchLoop, figures: dict[str, Any]) -> Profile:
        return Profile.of(
            self.prepared.space,
            allocation,
            budget=self.prepared.config.limits.describe(),
            figures=figures,
            provenance=self._provenance(searcher, loop),
        )

    def _figures(self, comparison: dict[str, Any], loop: SearchLoop) -> dict[str, Any]:
        rows = {row["name"]: row for row in comparison["rows"]}
        return {
            "heldout": {
                name: {key: row[key] for key in ("objective", "perplexity", "sparsity")} for name, row in rows.items()
            },
            "objective": comparison["objective"],
            "differences": comparison["differences"],
            "evaluated_tokens": loop.tokens,
        }

    def _provenance(self, searcher: str, loop: SearchLoop) -> dict[str, Any]:
        config, priced = self.prepared.config, self.prepared.priced
        measured = {}
        if config.hardware is not None and priced is not None:
            measured = {"hardware": f"{config.hardware.digest}: {priced.text}"}
        return measured | {
            "model": self.prepared.model.name,
            "searcher": searcher,
            "seed": config.seed,
            "supernet": loop.evaluations.supernet or self.prepared.fingerprint,
            "search_panel": self.prepared.panels.search.fingerprint,
            "heldout_panel": self.prepared.panels.heldout.fingerprint,
            "sparsearch": sparsearch.__version__,
        }

    def _evaluations(self, switcher: Switcher, panel: Panel, name: str, only_main: bool) -> JournaledEvaluations:
        objectives = self.prepared.objectives[:1] if only_main else self.prepared.objectives
        size, cached = batch_size(panel), self.prepared.config.run.state_cache
        evaluator = Evaluator(self.prepared.model, switcher, panel, objectives, size, cached)
        return JournaledEvaluations(evaluator, self.journal, name, self.stop.check)
