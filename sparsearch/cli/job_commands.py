"""Commands that work on a job: init, validate, plan, build, search, run, resume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sparsearch.cli.console import print_json, progress_listener

if TYPE_CHECKING:
    from sparsearch.export.run import Exported
    from sparsearch.job.config import JobConfig
    from sparsearch.job.events import Listener
    from sparsearch.job.job import Job

JobFile = Annotated[
    str, typer.Argument(metavar="JOB", help="A job file (YAML), or 'reference' for the embedded example.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("-o", "--override", metavar="KEY=VALUE", help="Change a field: -o searcher.generations=50"),
]
RunDir = Annotated[Path | None, typer.Option("--run", metavar="DIR", help="The run folder, in place of run.dir.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse measured times of another machine, and those that may be wrong.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    for command in (init, validate, plan, build, search, run):
        app.command()(command)
    app.command("resume", help="The same as search: goes on where the run folder stands.")(search)


def init(
    path: Annotated[Path, typer.Argument(help="The job file to write.")] = Path("job.yaml"),
    model: Annotated[
        str | None, typer.Option(help="Folder or hub name; left out: the embedded reference model.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented job file to start from."""
    from sparsearch.errors import ConfigError
    from sparsearch.files import write_text
    from sparsearch.reference import reference_job

    if path.exists() and not force:
        raise ConfigError(f"{path} exists; choose another name or give --force")
    text = reference_job().read_text(encoding="utf-8")
    if model is not None:
        import json

        text = text.replace("model: reference\n", f"model: {json.dumps(model)}\n")
    write_text(path, text)
    print(f"wrote {path}; next: sparsearch plan {path}")


def validate(job: JobFile, override: Overrides = None, run: RunDir = None) -> None:
    """Check a job file without loading a model."""
    from sparsearch.job.prepare import check_names

    config = _config(job, override, run)
    check_names(config)
    print(f"{job}: valid; run folder {config.run.dir}")


def plan(
    job: JobFile, override: Overrides = None, run: RunDir = None, as_json: Json = False, strict: Strict = False
) -> None:
    """Show what a job will do and cost, and write nothing."""
    from sparsearch.cli.plan_text import plan_lines
    from sparsearch.job.job import Job

    made = Job(_config(job, override, run), strict=strict).plan()
    if as_json:
        print_json(made.to_dict())
    else:
        print("\n".join(plan_lines(made)))


def build(
    job: JobFile, override: Overrides = None, run: RunDir = None, quiet: Quiet = False, strict: Strict = False
) -> None:
    """Build the supernet, or what is missing of it."""
    with progress_listener(quiet) as listener:
        supernet = _job(job, override, run, listener, strict).build()
    print(f"supernet of {len(supernet.space)} sites, {supernet.bytes / 2**20:.1f} MiB: {supernet.folder}")


def search(
    job: JobFile,
    override: Overrides = None,
    run: RunDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    strict: Strict = False,
) -> None:
    """Search an allocation; the same command again resumes."""
    from sparsearch.report.run import write_report

    with progress_listener(quiet) as listener:
        made = _job(job, override, run, listener, strict)
        profile = made.search()
    page = write_report(made.folder.path)
    if as_json:
        print_json(profile.to_dict())
        return
    _print_result(made.folder.path)
    print(f"profile: {made.folder.best}\nreport:  {page}")


def run(
    job: JobFile,
    override: Overrides = None,
    run: RunDir = None,
    out: Annotated[Path | None, typer.Option(help="Where to export; left out: RUN/export.")] = None,
    quiet: Quiet = False,
    strict: Strict = False,
) -> None:
    """Plan, build, search, report, export and verify; the same command again resumes."""
    from sparsearch.cli.plan_text import plan_lines
    from sparsearch.export.run import check_target, complete_export
    from sparsearch.job.events import Event
    from sparsearch.report.run import write_report

    with progress_listener(quiet) as listener:
        made = _job(job, override, run, listener, strict)
        target = out or made.folder.path / "export"
        check_target(made, target)
        for line in plan_lines(made.plan()):
            listener(Event("plan", text=line))
        made.search()
        page = write_report(made.folder.path)
        listener(Event("export", text=f"writing {target} and reloading it in a fresh process"))
        exported = complete_export(made, target)
    _print_result(made.folder.path)
    print(f"profile: {made.folder.best}\nreport:  {page}\nexport:  {target} {_verified(exported)}")


def _config(job: str, override: list[str] | None, run: Path | None) -> JobConfig:
    from sparsearch.job.config import load_config
    from sparsearch.reference import reference_job

    overrides = list(override or [])
    if job == "reference":
        # The embedded job lies inside the installation; its runs belong where the user is.
        overrides.insert(0, f"run.dir={Path('runs/reference').resolve()}")
    if run is not None:
        overrides.append(f"run.dir={run.resolve()}")
    return load_config(reference_job() if job == "reference" else job, overrides)


def _job(job: str, override: list[str] | None, run: Path | None, listener: Listener, strict: bool) -> Job:
    from sparsearch.job.job import Job

    return Job(_config(job, override, run), listener, strict)


def _print_result(run_dir: Path) -> None:
    from sparsearch.report.front import front_cells
    from sparsearch.report.run import read_report_data
    from sparsearch.report.table import aligned, comparison_table, comparison_text
    from sparsearch.report.text import headline

    data = read_report_data(run_dir)
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(comparison_table(data.rows, data.objective))
    else:
        print(comparison_text(data.rows, data.objective))
    print(headline(data.differences[0] if data.differences else None, data.objective))
    if data.front is not None:
        print(aligned(*front_cells(data.front, data.objective)))


def _verified(exported: Exported) -> str:
    result = exported.verified
    assert result is not None
    same = "logits equal" if result.max_difference == 0 else f"largest logit difference {result.max_difference:.2g}"
    return f"(reloaded: {same}, {result.sparsity:.2%} zeros)"
