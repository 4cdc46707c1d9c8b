"""A plan as lines for people."""

from __future__ import annotations

from sparsearch.job.plan import Plan

MILLI = 1e3


def plan_lines(plan: Plan) -> list[str]:
    """A few aligned lines."""
    tokens = "stops by itself" if plan.search_tokens is None else f"{plan.search_tokens:,.0f} tokens at most"
    budget = ", ".join(f"{name} {value}" for name, value in plan.budget.items())
    ready = (
        "ready" if plan.supernet_ready else f"about {_size(plan.supernet_bytes)} to build, {_size(plan.disk_free)} free"
    )
    lines = [
        f"model     {plan.model}: {plan.parameters:,} parameters, {plan.blocks} blocks",
        f"space     {plan.sites} sites of {plan.prunable:,} weights, {plan.levels} levels",
        f"budget    {budget}",
        *(f"          {name}: {_range(name, *ends)} reachable" for name, ends in plan.reachable.items()),
        *([] if plan.hardware is None else [f"hardware  {plan.hardware}"]),
        f"supernet  {plan.supernet}: {ready}; {plan.calibration_tokens:,} calibration tokens",
        f"search    {plan.searcher} by {plan.objective}: {tokens}; "
        f"then {plan.heldout_tokens:,} held-out tokens per allocation",
        f"run       {plan.run_dir}",
    ]
    return [*lines, *(f"warning   {warning}" for warning in plan.warnings)]


def _range(resource: str, low: float, high: float) -> str:
    if resource == "latency":
        return f"{MILLI * low:.6g} to {MILLI * high:.6g} ms"
    return f"{low:,.0f} to {high:,.0f}"


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
