"""The command that times this machine: measure."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsearch.cli.console import print_json

if TYPE_CHECKING:
    from torch import Tensor

    from sparsearch.hardware.kernels import Packed, StoredBackend
    from sparsearch.hardware.measure import Plan
    from sparsearch.hardware.measure_model import ModelPlan
    from sparsearch.hardware.table import Table

MILLI = 1e3
IDLE_LOAD = 0.5
"""Average load a core up to which nothing is said."""


def register(app: typer.Typer) -> None:
    """Adds the command to `app`."""
    app.command()(measure)


def measure(
    out: Annotated[Path, typer.Option(help="The table to write; where it exists, measuring goes on in it.")],
    model: Annotated[
        str | None, typer.Option(help="Folder or hub name; left out: the embedded reference model.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="Threads to compute with; left out: torch's number.")] = None,
    tokens: Annotated[
        list[int] | None, typer.Option(help="Tokens at once; repeatable. Left out: 1, 4, 16, 64, 256.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first look: fewer levels, rounds and tokens.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time the kernels on the shapes of a model's sites, and the whole model on them."""
    import torch

    from sparsearch.hardware.fingerprint import machine_fingerprint
    from sparsearch.hardware.measure import device_clock, left_to_measure, open_table, pinned_threads
    from sparsearch.hardware.measure import measure as run
    from sparsearch.hardware.measure_model import ModelPlan, measure_model
    from sparsearch.hardware.model_plan import LIMIT, QUICK_LIMIT, check_request, model_plan
    from sparsearch.runtime.head import packed_head
    from sparsearch.runtime.linear import Form, PackedLinear

    count = torch.get_num_threads() if threads is None else threads
    check_request(device, count, tuple(tokens or ()))

    def packed_linear(backend: StoredBackend, packed: Packed, bias: Tensor | None) -> PackedLinear:
        return PackedLinear([Form(backend, packed)], bias, plan.dtype)

    loaded, plan = model_plan(model, device=device, tokens=tuple(tokens or ()), quick=quick)
    head = packed_head(loaded) if device == "cpu" else {}
    whole = ModelPlan(loaded, plan, packed_linear, QUICK_LIMIT if quick else LIMIT, head)
    with pinned_threads(count):
        table = open_table(out, machine_fingerprint(device, count, plan.dtype_name), plan.rounds)
        _say(plan_line(plan, left_to_measure(plan, table)))
        _say(model_line(whole, table))
        if busy := busy_warning(os.getloadavg()[0], os.cpu_count() or 1):
            _say(busy)
        table = run(plan, table, out, progress=lambda done, total: _say(f"measure: {done} of {total} shapes"))
        if device == "cpu":
            clock = device_clock(device, count)
            table = measure_model(whole, table, out, clock, lambda done, total: _say(f"model: {done} of {total} runs"))
    if as_json:
        print_json({"out": str(out), "fingerprint": dict(table.fingerprint), "cells": len(table.cells)}
                   | {"noisy": _noisy(table), "fastest": fastest(table), "models": predictions(table)})  # fmt: skip
        return
    for row in fastest(table):
        print(
            f"{row['shape'][0]} x {row['shape'][1]}, {row['tokens']} tokens, {row['level']}: {row['backend']} "
            f"{MILLI * row['seconds']:.4f} ms, {1 / row['ratio']:.2f} times as fast as dense"
            f"{' (noisy)' if row['noisy'] else ''}"
        )
    for row in predictions(table):
        times = ", ".join(f"{label} {MILLI * seconds:.4g} ms" for label, seconds in row["seconds"].items())
        print(
            f"{row['model']}, {row['tokens']} tokens: {times}; predicted to within {row['error']:.1%} "
            f"(scale {row['scale']:.3f})"
        )
    print(f"wrote {out}: {len(table.cells)} cells; {_noisy(table)} noisy (spread or drift above 10 %)")


def plan_line(plan: Plan, shapes: list[tuple[int, int]]) -> str:
    """What will be measured and how long it takes at least."""
    cells, seconds = sum(map(plan.cells, shapes)), sum(map(plan.least_seconds, shapes))
    return (
        f"plan: {cells} cells ({len(shapes)} of {len(plan.shapes)} shapes left, tokens "
        f"{', '.join(map(str, plan.tokens))}, {len(plan.levels)} levels), {plan.rounds} rounds, "
        f"about {seconds:.0f} s or more"
    )


def model_line(whole: ModelPlan, table: Table) -> str:
    """Which times of the whole model will be taken, or why none."""
    if whole.plan.device != "cpu":
        return "model: the runtime works on a CPU, so that only products are measured here"
    if not whole.tokens:
        return "model: it takes no token ids, so that only products are measured"
    return (
        f"model: {len(whole.left(table))} of {len(whole.tokens)} token counts left, {len(whole.levels)} models each, "
        f"about {whole.limit:.0f} s each at most"
    )


def predictions(table: Table) -> list[dict[str, Any]]:
    """Every model and token count: the measured times, and how well the table predicts them."""
    from sparsearch.hardware.cost_model import Chooser, calibrated, rivals

    found = []
    for runs in table.models:
        among = rivals(str(table.fingerprint["device"]), runs.storage)
        for tokens in runs.tokens:
            scale, error = calibrated(runs, Chooser(table, tokens, among))
            seconds = {label: run.seconds for label, run in runs.of(tokens).items()}
            found.append({"model": runs.name, "tokens": tokens, "seconds": seconds, "scale": scale, "error": error})
    return found


def busy_warning(load: float, cores: int) -> str | None:
    """What to say where others compute on `load` of `cores`; None on an idle machine."""
    if load <= IDLE_LOAD * cores:
        return None
    return (
        f"warning: the machine is busy (load {load:.1f} on {cores} cores); times will be wrong, measure when it is idle"
    )


def fastest(table: Table) -> list[dict[str, Any]]:
    """The fastest cell of every shape, token count and level, in this order."""
    best: dict[tuple[Any, ...], Any] = {}
    for cell in table.cells:
        key = (cell.shape, cell.tokens, -cell.density, cell.label)
        if key not in best or cell.seconds < best[key].seconds:
            best[key] = cell
    return [
        {
            "shape": list(cell.shape), "tokens": cell.tokens, "level": cell.label, "backend": cell.backend,
            "seconds": cell.seconds, "ratio": cell.ratio, "spread": cell.spread, "noisy": cell.noisy,
        }
        for _, cell in sorted(best.items(), key=lambda pair: pair[0])
    ]  # fmt: skip


def _noisy(table: Table) -> int:
    return sum(cell.noisy for cell in table.cells)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
