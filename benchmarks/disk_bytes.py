"""How many bytes on disk the reference supernet takes a weight, for all 19 levels together.

Counted is the whole folder: shards, their notes and the manifest. Targets: at most 1.1 bytes a weight for pruners
that only mask; for SparseGPT at most 1.1 times a bit mask and the non-zeros, counted from the decoded variants.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import Check, finish, parse_arguments, reference_job

from sparsearch.job.prepare import Prepared
from sparsearch.model.sites import site_weight
from sparsearch.pruning import make_pruner
from sparsearch.supernet import BuildPlan, Supernet, build_supernet

MASKING = ("random", "magnitude", "wanda")
UPDATING = ("sparsegpt",)
MOST = 1.1


def main() -> None:
    given = parse_arguments("disk_bytes", __doc__, rounds=None)
    job = reference_job(quick=given.quick)
    rows = [measure(job, pruner) for pruner in (*MASKING, *UPDATING)]
    found = {str(row["pruner"]): row for row in rows}
    checks = [Check(f"{name}: bytes a weight", found[name]["bytes/weight"], MOST) for name in MASKING]
    checks += [Check(f"{name}: bytes / (mask + non-zeros)", found[name]["ratio"], MOST) for name in UPDATING]
    finish(given, rows, checks)


def measure(job: Prepared, pruner: str) -> dict[str, Any]:
    """The size of one pruner's supernet beside what its masks and non-zeros take."""
    plan = BuildPlan(job.space, make_pruner(pruner, {}), job.panels.calibration)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "supernet"
        supernet = build_supernet(job.model, plan, folder)
        total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        bare = mask_and_values(job, supernet)
    weights, itemsize = job.space.prunable, job.model.storage_dtype.itemsize
    dense = (int(job.space.counts.max()) - 1) * itemsize
    return {
        "pruner": pruner,
        "weights": weights,
        "bytes": total,
        "shards": supernet.bytes,
        "bytes/weight": total / weights,
        "mask + non-zeros": bare / weights,
        "dense copies": float(dense),
        "ratio": total / bare,
    }


def mask_and_values(job: Prepared, supernet: Supernet) -> int:
    """Bytes of one bit a weight and the non-zeros in the checkpoint's dtype, over all sites and levels."""
    total = 0
    for index, (site, count) in enumerate(zip(job.space.sites, job.space.counts, strict=True)):
        dense = site_weight(job.model.module, site)
        for level in range(1, int(count)):
            variant = supernet.variant(index, level, dense)
            total += -(-site.size // 8) + int(variant.count_nonzero()) * variant.itemsize
    return total


if __name__ == "__main__":
    main()
