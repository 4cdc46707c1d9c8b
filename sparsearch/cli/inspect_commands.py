"""Commands that look: status, report, export, eval, ls, doctor."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsearch.cli.console import print_json, progress_listener
from sparsearch.cli.exchange_commands import print_recipe

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Kind(StrEnum):
    """What `ls` lists."""

    searchers = "searchers"
    allocators = "allocators"
    spaces = "spaces"
    objectives = "objectives"
    pruners = "pruners"
    kernels = "kernels"


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    for command in (status, report, export, doctor):
        app.command()(command)
    app.command("eval")(evaluate)
    app.command("ls")(list_names)


def status(run: Run, as_json: Json = False) -> None:
    """How far a run is, also while it is running."""
    from sparsearch.job.status import read_status

    found = read_status(run)
    if as_json:
        print_json(found.to_dict())
        return
    state = "running" if found.running else "not running"
    eta = "" if found.eta is None else f", about {found.eta:.0f} s left in this stage"
    print(f"{run}: {state}; stage {found.stage}, {found.done} of {found.total}{eta}")
    print(f"{found.evaluations} evaluations, {found.forward_tokens:,.0f} forward tokens")


def report(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="Where to write; left out: RUN/report.html.")] = None,
) -> None:
    """Write the HTML report of a finished run again; of a search for a front also while it is going or stopped."""
    from sparsearch.report.run import write_report

    print(f"report: {write_report(run, out)}")


def export(
    run: Run,
    out: Annotated[Path, typer.Option(help="A folder that does not exist yet; for a recipe the file.")],
    layout: Annotated[
        str, typer.Option(help="dense: an ordinary checkpoint with zeros. runtime: packed for the sparse kernels.")
    ] = "dense",
    profile: Annotated[str, typer.Option(help="best, uniform, pareto:K, knee, or the path of a profile.")] = "best",
    verify: Annotated[bool, typer.Option(help="Reload in a fresh process and compare.")] = True,
    recipe: Annotated[
        str | None,
        typer.Option(help="In place of a checkpoint: llm-compressor, evopress, evopress-depth."),
    ] = None,
    target: Annotated[float | None, typer.Option(help="Recipe evopress: sparsity of level 0.")] = None,
    step: Annotated[int | None, typer.Option(help="Recipe evopress: weights between two levels.")] = None,
    hardware: Annotated[
        Path | None,
        typer.Option(help="Layout runtime: pack by a file of sparsearch measure; left out: by the job's, or by size."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse measured times of another machine.")] = False,
    as_json: Json = False,
) -> None:
    """Write the checkpoint of a finished run, or its profile as another tool's recipe."""
    from sparsearch.errors import ConfigError
    from sparsearch.export.run import export_run

    if recipe is not None:
        from sparsearch.export.recipes import export_recipe

        if layout != "dense":
            raise ConfigError(f"--layout: {layout!r} with --recipe; a recipe has no layout, give one of them")
        if (hardware, strict) != (None, False):
            raise ConfigError("--hardware and --strict: allowed only with --layout runtime")
        print_recipe(export_recipe(run, out, recipe, profile=profile, target=target, step=step), as_json)
        return
    if (target, step) != (None, None):
        raise ConfigError("--target and --step: allowed only with --recipe evopress")
    done = export_run(run, out, layout=layout, profile=profile, verify=verify, hardware=hardware, strict=strict)
    found, packing = done.verified, done.packing
    if as_json:
        measured = {"packing": packing.text, "warnings": list(packing.doubts)} if packing else {}
        print_json({
            "out": str(done.out), "sparsity": done.profile.sparsity,
            "max_difference": found and found.max_difference, "zeros": found and found.sparsity,
        } | measured)  # fmt: skip
        return
    print(f"wrote {done.out}: {done.profile.sparsity:.2%} sparse over its sites")
    if packing:
        print("\n".join([packing.text, *(f"warning: {doubt}" for doubt in packing.doubts)]))
    if found:
        print(
            f"reloaded in a fresh process: largest logit difference {found.max_difference:g}, "
            f"{found.sparsity:.2%} zeros"
        )


def evaluate(
    run: Run,
    profile: Annotated[
        list[str] | None, typer.Option(help="best, uniform, pareto:K, knee, or the path of a profile; repeatable.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure profiles on the held-out panel of a run's job, beside the dense model."""
    from sparsearch.export.run import chosen_profile, open_run
    from sparsearch.report.run import comparison_data
    from sparsearch.report.table import comparison_text

    names = profile or ["uniform", "best"]
    with progress_listener() as listener:
        job = open_run(run)
        job.listener = listener
        profiles = {name: chosen_profile(job.folder, name) for name in names}
        comparison = job.evaluate(profiles)
    if as_json:
        print_json(comparison)
        return
    data = comparison_data(comparison, title="")
    print(comparison_text(data.rows, data.objective))


def list_names(kind: Annotated[Kind, typer.Argument(help="What to list.")], as_json: Json = False) -> None:
    """List what a job file may name, and the kernels that the hardware is measured with."""
    rows = _rows(kind)
    if as_json:
        print_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        options = "".join(f"\n{'':{width}}    {name}: {value}" for name, value in row.get("options", {}).items())
        missing = f" Unavailable: {row['unavailable']}." if row.get("unavailable") else ""
        print(f"{row['name']:{width}}  {row['summary']}{missing}{options}")


def _rows(kind: Kind) -> list[dict[str, Any]]:
    if kind in (Kind.searchers, Kind.allocators):
        from sparsearch.search import describe_searchers

        return [row for row in describe_searchers() if kind is Kind.searchers or not row["evaluates"]]
    if kind is Kind.pruners:
        from sparsearch.pruning import describe_pruners

        return describe_pruners()
    if kind is Kind.kernels:
        from sparsearch.hardware.kernels import describe_kernels

        return describe_kernels()
    from sparsearch.job.presets import describe_presets

    return describe_presets("search_spaces" if kind is Kind.spaces else "objectives")


def doctor(as_json: Json = False) -> None:
    """Show versions, devices, memory and disk, and what is missing."""
    from sparsearch.cli.doctor import examine

    found = examine()
    if as_json:
        print_json(found)
        return
    width = max(map(len, found))
    for name, value in found.items():
        print(f"{name:{width}}  {value}")
