"""Commands between runs and between tools: compare, study, import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sparsearch.cli.console import print_json

if TYPE_CHECKING:
    from sparsearch.export.imported import Imported
    from sparsearch.export.recipes import WrittenRecipe

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

importers = typer.Typer(help="Make a profile from another tool's file.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds the commands to `app`."""
    app.command()(compare)
    app.command()(study)
    importers.command("evopress")(import_evopress)
    app.add_typer(importers, name="import")


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; differences are from the first.")],
    as_json: Json = False,
) -> None:
    """Show finished runs side by side, with paired differences where their held-out panels are the same.

    Runs that differ in their seeds alone are summed up by medians, too.
    """
    from sparsearch.report.runs import compare_runs, repeats_cells, runs_cells
    from sparsearch.report.table import aligned
    from sparsearch.report.text import headline

    found = compare_runs(runs)
    if as_json:
        print_json(found.to_dict())
        return
    print(aligned(*runs_cells(found.runs)))
    if found.repeats:
        print(f"medians over seeds:\n{aligned(*repeats_cells(found.repeats))}")
    for warning in found.warnings:
        print(f"warning: {warning}")
    for difference in found.differences:
        print(headline(difference, found.runs[0].objective))


def study(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder; it may be going still.")],
    out: Annotated[Path, typer.Option(help="The file to write: Optuna's journal.")],
    as_json: Json = False,
) -> None:
    """Write a run's evaluations as an Optuna study, for optuna-dashboard and Optuna's plots."""
    from sparsearch.export.optuna_study import export_study

    trials = export_study(run, out)
    if as_json:
        print_json({"out": str(out), "trials": trials})
        return
    print(f"wrote {out}: {trials} trials; optuna-dashboard {out} shows them")


def import_evopress(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="EvoPress's level text or depth text.")],
    out: Annotated[Path, typer.Option(help="The profile to write.")],
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A run folder or job file whose levels to take.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="In place of --run: a model; the default levels.")] = None,
    target: Annotated[
        float | None, typer.Option(help="Sparsity of level 0 of level text; left out: that of FILE.json.")
    ] = None,
    step: Annotated[
        int | None, typer.Option(help="Weights between two levels; left out: that of FILE.json, or 1000000.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read an allocation that EvoPress found, for eval --profile, export --profile and warm_start."""
    from sparsearch.errors import ConfigError
    from sparsearch.export.imported import Place
    from sparsearch.export.imported import import_evopress as read

    if (run is None) == (model is None):
        raise ConfigError("--run, --model: give one of them, so that the sizes of the layers are known")
    place = Place.of_model(model) if run is None and model is not None else Place.of_run(run or "")
    found = read(file, place, target, step)
    found.profile.save(out)
    if as_json:
        print_json({
            "out": str(out), "sparsity": found.profile.sparsity, "asked": found.asked, "changed": found.changed,
            "largest_change": found.largest_change, "budget_met": found.met,
        })  # fmt: skip
        return
    print("\n".join([f"wrote {out}", *_rounding(found)]))


def _rounding(found: Imported) -> list[str]:
    """What the levels made of the file, and whether that meets the budget."""
    count = len(found.profile.sites)
    lines = [
        f"asked for {found.asked:.2%}, the nearest levels give {found.profile.sparsity:.2%}: "
        f"{found.changed} of {count} sites rounded, by up to {found.largest_change:.2%}"
    ]
    budget = ", ".join(f"{resource} {bound}" for resource, bound in found.profile.budget.items())
    if found.met is not None:
        missed = "is not met (as a warm start it is repaired to it)"
        lines.append(f"budget {budget} {'is met' if found.met else missed}")
    return lines


def print_recipe(done: WrittenRecipe, as_json: bool) -> None:
    """What `sparsearch export --recipe` says."""
    if as_json:
        print_json({"files": [str(path) for path in done.files], "sparsity": done.sparsity, "notes": list(done.notes)})
        return
    print(f"wrote {', '.join(map(str, done.files))}: {done.sparsity:.2%} sparse over its sites")
    for note in done.notes:
        print(f"note: {note}")
