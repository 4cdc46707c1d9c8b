"""Exporting a profile of a run folder, and checking the result in a fresh process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.export.card import model_card
from sparsearch.export.dense import export_dense
from sparsearch.export.measured import Packing, measured_packing
from sparsearch.export.runtime import export_runtime
from sparsearch.export.verify import VerifyResult, forward_logits, verify_export
from sparsearch.job.config import identity, load_config
from sparsearch.job.folder import RunFolder
from sparsearch.job.front import front_point
from sparsearch.job.job import Job
from sparsearch.job.journal import Journal
from sparsearch.job.prepare import Prepared
from sparsearch.job.supernets import last_folder
from sparsearch.model.load import load_tokenizer
from sparsearch.model.site import Site
from sparsearch.report.run import comparison_data
from sparsearch.report.table import Cells, comparison_cells
from sparsearch.space import Profile
from sparsearch.supernet import Supernet, Switcher

FORMATS: dict[str, Callable[..., None]] = {"dense": export_dense, "runtime": export_runtime}
"""Layout name, as in `sparsearch export --layout`, to the function that writes it."""

PACKED_LAYOUT = "runtime"
"""The one that measured times choose backends for."""

TOLERANCES = {"dense": {}, "runtime": {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}}
"""Largest difference of a logit, relative to the largest one, by layout and the dtype of the computation.

An ordinary checkpoint computes the very same; other kernels sum in another order.
"""

PROFILES = "best, uniform, pareto:K, knee, or the path of a profile"
VERIFIED_SEQUENCES = 2
EXPORTED_CONFIG = Path("sparsearch", "config.yaml")
EXPORTED_PROFILE = Path("sparsearch", "profile.json")


@dataclass(frozen=True)
class Exported:
    """What was written, and what the fresh process found (None when it was not asked).

    Attributes:
        packing: what the runtime layout packed weights for, where measured times said it.
    """

    out: Path
    profile: Profile
    verified: VerifyResult | None
    packing: Packing | None = None


def export_run(
    job: Job | str | Path,
    out: str | Path,
    *,
    layout: str = "dense",
    profile: str = "best",
    verify: bool = True,
    hardware: str | Path | None = None,
    strict: bool = False,
) -> Exported:
    """Writes the checkpoint of a finished run's profile.

    Args:
        job: a job, or its run folder.
        out: a folder that does not exist yet.
        layout: one of `FORMATS`.
        profile: `best`, `uniform`, `pareto:K`, `knee`, or the path of a profile of the same search space.
        verify: reload in a fresh process and compare logits and zeros.
        hardware: layout runtime: the file of measured times that says which backend a weight is packed for; None for
            the one that the job's budget names, or, where it names none, the smallest form.
        strict: refuse times of another machine, in place of `Exported.packing.doubts`.

    Raises:
        SparsearchError: unknown layout or profile, unfinished run, unusable `hardware`, `out` taken, disk full, or not
            verified.
    """
    if layout not in FORMATS:
        raise ConfigError(f"--layout: {layout!r} is unknown; {did_you_mean(layout, FORMATS)}")
    if (hardware, strict) != (None, False) and layout != PACKED_LAYOUT:
        raise ConfigError(f"--hardware and --strict: allowed only with --layout {PACKED_LAYOUT}")
    if not isinstance(job, Job):
        job = open_run(job)
    chosen = chosen_profile(job.folder, profile)
    prepared, out = job.prepared, Path(out)
    allocation = chosen.allocation(prepared.space)
    packing, options = None, {}
    if layout == PACKED_LAYOUT:
        packing = measured_packing(job, allocation, None if hardware is None else Path(hardware), strict)
        options = {"forms": packing and packing.forms}
    switcher = Switcher(prepared.model, _supernet(job))
    config_yaml = job.folder.config.read_text(encoding="utf-8")
    named = prepared.config.model

    def weights() -> Iterator[tuple[Site, Tensor]]:
        for index, (site, level) in enumerate(zip(prepared.space.sites, allocation.levels, strict=True)):
            yield site, switcher.variant(index, level)

    FORMATS[layout](
        prepared.model,
        weights,
        out,
        profile=chosen,
        tokenizer=load_tokenizer(named.name, named.revision, named.trust_remote_code),
        card=_card(job, chosen, config_yaml, layout),
        config_yaml=config_yaml,
        **options,
    )
    return Exported(out, chosen, _verify(prepared, switcher, out, chosen, layout) if verify else None, packing)


def check_target(job: Job, out: Path) -> None:
    """Refuses a folder that a job's checkpoint cannot go to, before hours of work end there.

    Raises:
        ConfigError: `out` holds something else than an export of this job.
    """
    if not _is_free(out) and _exported_job(out) != identity(job.config):
        raise ConfigError(f"out: {out} exists and is no export of this job; choose another folder or delete this one")


def complete_export(job: Job, out: Path) -> Exported:
    """The checkpoint of a finished job's best profile in `out`: written where it is missing, verified in any case.

    A run that was killed while it verified has left a checkpoint that nobody has checked.

    Raises:
        SparsearchError: as `check_target` and `export_run`.
    """
    check_target(job, out)
    if _is_free(out):
        return export_run(job, out)
    best = chosen_profile(job.folder, "best")
    if Profile.load(out / EXPORTED_PROFILE) != best:
        raise ConfigError(f"out: {out} holds another profile of this job; choose another folder or delete this one")
    prepared = job.prepared
    return Exported(out, best, _verify(prepared, Switcher(prepared.model, _supernet(job)), out, best))


def _supernet(job: Job) -> Supernet:
    """The supernet that the job's search ended with."""
    with Journal.read(job.folder.journal) as journal:
        return Supernet(last_folder(job.prepared, journal), job.prepared.space)


def _is_free(out: Path) -> bool:
    return not out.exists() or (out.is_dir() and not any(out.iterdir()))


def _exported_job(out: Path) -> dict[str, Any] | None:
    """The identity of the job that `out` was exported from, None where it is no export."""
    config = out / EXPORTED_CONFIG
    return identity(load_config(config)) if config.is_file() else None


def open_run(run_dir: str | Path) -> Job:
    """The job of an existing run folder.

    Raises:
        ConfigError: there is no run in it.
    """
    folder = RunFolder(Path(run_dir))
    if not folder.config.exists():
        raise ConfigError(f"{folder.path} is no run folder (no config.yaml); give the folder of a job")
    return Job.load(folder.config, (f"run.dir={folder.path.resolve()}",))


def chosen_profile(folder: RunFolder, name: str) -> Profile:
    """`best`, `uniform`, a point of the front as `pareto:K` or `knee`, or a profile file.

    Raises:
        ConfigError: there is no such file, no front, or no such point on it.
    """
    if name == "knee" or name.startswith("pareto:"):
        return front_point(folder, name, PROFILES)
    path = {"best": folder.best, "uniform": folder.uniform}.get(name, Path(name))
    if not path.exists():
        what = "the search has not finished" if name in ("best", "uniform") else "no such file"
        raise ConfigError(f"--profile: {path} does not exist ({what}); allowed: {PROFILES}")
    return Profile.load(path)


def _verify(prepared: Prepared, switcher: Switcher, out: Path, profile: Profile, layout: str = "dense") -> VerifyResult:
    """Compares `out` with the live model, which has the profile's weights meanwhile."""
    module = prepared.model.module
    input_ids = prepared.panels.heldout.items["input_ids"][:VERIFIED_SEQUENCES]
    parameter = next(module.parameters())
    has_head = getattr(module, "get_output_embeddings", lambda: None)() is not None
    switcher.switch(profile.allocation(prepared.space))
    try:
        return verify_export(
            out,
            input_ids=input_ids,
            expected_logits=forward_logits(module, input_ids),
            profile=profile,
            device=parameter.device,
            dtype=parameter.dtype,
            auto_class="AutoModelForCausalLM" if has_head else "AutoModel",
            trust_remote_code=prepared.config.model.trust_remote_code,
            tolerance=TOLERANCES[layout].get(parameter.dtype, 0.0),
            layout=layout,
        )
    finally:
        switcher.restore()


def _card(job: Job, profile: Profile, config_yaml: str, layout: str) -> str:
    with Journal.read(job.folder.journal) as journal:
        comparison = journal.fact("comparison")
    figures: Cells = (("figures",), [("not measured yet",)])
    if comparison is not None:
        data = comparison_data(comparison, title="")
        figures = comparison_cells(data.rows, data.objective)
    return model_card(
        profile,
        base_model=job.prepared.model.name,
        figures=figures,
        config_yaml=config_yaml,
        layout=layout,
    )
