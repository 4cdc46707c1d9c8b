"""Exporting a profile of a run folder, and checking the result in a fresh process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.export.card import model_card
from sparsearch.export.dense import export_dense
from sparsearch.export.verify import VerifyResult, forward_logits, verify_export
from sparsearch.job.folder import RunFolder
from sparsearch.job.job import Job
from sparsearch.job.journal import Journal
from sparsearch.job.prepare import Prepared
from sparsearch.model.load import load_tokenizer
from sparsearch.model.site import Site
from sparsearch.report.run import comparison_data
from sparsearch.report.table import comparison_cells
from sparsearch.space import Profile
from sparsearch.supernet import Supernet, Switcher

FORMATS: dict[str, Callable[..., None]] = {"dense": export_dense}
"""Layout name, as in `sparsearch export --layout`, to the function that writes it."""

VERIFIED_SEQUENCES = 2


@dataclass(frozen=True)
class Exported:
    """What was written, and what the fresh process found (None when it was not asked)."""

    out: Path
    profile: Profile
    verified: VerifyResult | None


def export_run(
    job: Job | str | Path,
    out: str | Path,
    *,
    layout: str = "dense",
    profile: str = "best",
    verify: bool = True,
) -> Exported:
    """Writes the checkpoint of a finished run's profile.

    Args:
        job: a job, or its run folder.
        out: a folder that does not exist yet.
        layout: one of `FORMATS`.
        profile: `best`, `uniform`, or the path of a profile of the same search space.
        verify: reload in a fresh process and compare logits and zeros.

    Raises:
        SparsearchError: unknown layout or profile, unfinished run, `out` taken, disk full, or not verified.
    """
    if layout not in FORMATS:
        raise ConfigError(f"--layout: {layout!r} is unknown; {did_you_mean(layout, FORMATS)}")
    if not isinstance(job, Job):
        job = open_run(job)
    chosen = chosen_profile(job.folder, profile)
    prepared, out = job.prepared, Path(out)
    supernet = Supernet(prepared.supernet_folder, prepared.space)
    switcher = Switcher(prepared.model, supernet)
    allocation = chosen.allocation(prepared.space)
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
        card=_card(job, chosen, config_yaml),
        config_yaml=config_yaml,
    )
    verified = None
    if verify:
        switcher.switch(allocation)
        try:
            verified = _verify(prepared, out, chosen)
        finally:
            switcher.restore()
    return Exported(out, chosen, verified)


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
    """`best`, `uniform`, or a profile file."""
    path = {"best": folder.best, "uniform": folder.uniform}.get(name, Path(name))
    if not path.exists():
        what = "the search has not finished" if name in ("best", "uniform") else "no such file"
        raise ConfigError(
            f"--profile: {path} does not exist ({what}); allowed: best, uniform, or the path of a profile"
        )
    return Profile.load(path)


def _verify(prepared: Prepared, out: Path, profile: Profile) -> VerifyResult:
    """The live model has the profile's weights at this point."""
    module = prepared.model.module
    input_ids = prepared.panels.heldout.items["input_ids"][:VERIFIED_SEQUENCES]
    parameter = next(module.parameters())
    has_head = getattr(module, "get_output_embeddings", lambda: None)() is not None
    return verify_export(
        out,
        input_ids=input_ids,
        expected_logits=forward_logits(module, input_ids),
        profile=profile,
        device=parameter.device,
        dtype=parameter.dtype,
        auto_class="AutoModelForCausalLM" if has_head else "AutoModel",
        trust_remote_code=prepared.config.model.trust_remote_code,
    )


def _card(job: Job, profile: Profile, config_yaml: str) -> str:
    with Journal.read(job.folder.journal) as journal:
        data = comparison_data(journal.fact("comparison"), title="")
    return model_card(
        profile,
        base_model=job.prepared.model.name,
        figures=comparison_cells(data.rows, data.objective),
        config_yaml=config_yaml,
    )
