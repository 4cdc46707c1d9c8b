"""A job's supernets: the one that its config describes, and those that its searcher has built around allocations."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sparsearch.job.events import Announcer
from sparsearch.job.journal import Journal, Totals
from sparsearch.job.plan import check_disk
from sparsearch.job.prepare import Prepared
from sparsearch.job.stop import StopRequest
from sparsearch.model.panel import Panel
from sparsearch.space import Allocation
from sparsearch.supernet import BuildPlan, Supernet, build_supernet
from sparsearch.supernet.build import supernet_complete

BATCH_TOKENS = 4096
REBUILT = "rebuilt"
"""The fact that holds the allocation around which the search's last supernet was built, if it asked for any."""


def batch_size(panel: Panel) -> int:
    """Sequences per forward."""
    return max(1, BATCH_TOKENS // panel.length)


def last_folder(prepared: Prepared, journal: Journal) -> Path:
    """Where the supernet lies that a finished search ended with; its profiles are made of it."""
    levels = journal.fact(REBUILT)
    return prepared.supernet_folder if levels is None else prepared.folder_around(Allocation.of(levels))


def search_totals(journal: Journal) -> Totals:
    """What the evaluations of the search panel cost together, on all supernets."""
    paid = [totals for panel, totals in journal.totals().items() if panel.partition(" on ")[0] == "search"]
    return Totals(
        sum(totals.evaluations for totals in paid),
        sum(totals.forward_tokens for totals in paid),
        sum(totals.seconds for totals in paid),
    )


@dataclass(eq=False)
class Supernets:
    """Builds a job's supernets, or what is missing of them, and opens them."""

    prepared: Prepared
    journal: Journal
    stop: StopRequest
    announce: Announcer

    def own(self) -> Supernet:
        """The one that the config describes.

        Raises:
            SparsearchError: as `build_supernet`, or stopped.
        """
        folder = self.prepared.supernet_folder
        supernet = self._built(self.prepared.build_plan, folder)
        self.journal.set_fact(
            "supernet", {"folder": str(folder), "fingerprint": supernet.fingerprint, "bytes": supernet.bytes}
        )
        return supernet

    def around(self, allocation: Allocation) -> Supernet:
        """The one whose later blocks were shown `allocation`, or the mean around it; below its own fingerprint.

        The model has to be dense.

        Raises:
            SparsearchError: as `own`, or too little disk.
        """
        folder = self.prepared.folder_around(allocation)
        check_disk(self.prepared, folder)
        return self._built(self.prepared.plan_around(allocation), folder)

    def last(self) -> Supernet | None:
        """The one that a finished search ended with, where that is not the config's own."""
        levels = self.journal.fact(REBUILT)
        return None if levels is None else self.around(Allocation.of(levels))

    def _built(self, plan: BuildPlan, folder: Path) -> Supernet:
        if not supernet_complete(folder):
            self.announce.line("build", f"supernet of {len(plan.space)} sites in {folder}")

        def report(done: int, total: int) -> None:
            self.announce.progress("build", done, total)
            self.stop.check()

        supernet = build_supernet(
            self.prepared.model,
            plan,
            folder,
            batch_size=batch_size(plan.panel),
            workers=self.prepared.config.run.workers or os.cpu_count() or 1,
            report=report,
        )
        supernet.cache_bytes = self.prepared.config.run.variant_cache
        return supernet
