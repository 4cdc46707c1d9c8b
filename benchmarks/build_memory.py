"""Whether the peak memory of a build grows with the number of blocks: Llama models of 12 and 24 equal blocks.

Each build runs in a fresh process that has built a small supernet before, so that libraries are loaded. Measured is
the kernel's own peak of the resident set (VmHWM of /proc, reset before the build), memory-mapped files included;
subtracted are the resident set before the model was made and the bytes of the model's weights. Both the statistics
of a dense model (propagation: dense) and of a pruned one (uniform) are looked at.

glibc's heap keeps what was freed and fills up with gaps; how much so is chance. Therefore the processes that are
judged give every buffer above 256 KiB a mapping of its own, which ends when the buffer does, and so show what the
build holds; one pair shows the default heap as well. Target: no growth; allowed are 5 % for what is smaller.
"""

from __future__ import annotations

import os
import tempfile
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from common import SEED, Check, Row, finish, parse_arguments
from transformers import LlamaConfig, LlamaForCausalLM

from sparsearch.api import search_space
from sparsearch.model.load import wrap_model
from sparsearch.model.panel import Panel
from sparsearch.model.prunable import PrunableModel
from sparsearch.pruning import make_pruner
from sparsearch.space import Allocation
from sparsearch.supernet import BuildPlan, build_supernet

BLOCKS = (12, 24)
WIDTHS = {"hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8, "num_key_value_heads": 4}
SMALL = {"hidden_size": 64, "intermediate_size": 176, "num_attention_heads": 2, "num_key_value_heads": 1}
SEQUENCES, TOKENS, VOCABULARY = 32, 256, 2048
MOST = 1.05
MIB = 2**20
HEAPS = {"mapped": {"MALLOC_MMAP_THRESHOLD_": "262144"}, "default": {}}
CASES = (("dense", "mapped"), ("uniform", "mapped"), ("dense", "default"))


def random_llama(widths: dict[str, Any], blocks: int) -> PrunableModel:
    """A model as transformers initialises it; it computes in float32 and stores float16."""
    torch.manual_seed(SEED)
    config = LlamaConfig(**widths, num_hidden_layers=blocks, vocab_size=VOCABULARY, max_position_embeddings=TOKENS)
    return wrap_model(LlamaForCausalLM(config), storage_dtype=torch.float16)


def build(model: PrunableModel, propagate: bool) -> int:
    """Builds a SparseGPT supernet of 19 levels and gives its bytes on disk."""
    space = search_space(model)
    tokens = torch.randint(0, VOCABULARY, (SEQUENCES, TOKENS), generator=torch.Generator().manual_seed(SEED))
    shown = Allocation.of(space.counts // 2) if propagate else None
    plan = BuildPlan(space, make_pruner("sparsegpt", {}), Panel({"input_ids": tokens}), shown)
    with tempfile.TemporaryDirectory() as folder:
        return build_supernet(model, plan, Path(folder) / "supernet").bytes


def measure(widths: dict[str, int], blocks: int, propagate: bool) -> dict[str, float]:
    """MiB of one build in this process, which should be fresh."""
    build(random_llama(SMALL, 1), propagate)
    before = resident("VmRSS")
    model = random_llama(widths, blocks)
    weights = sum(parameter.nbytes for parameter in model.module.parameters())
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    disk = build(model, propagate)
    peak = resident("VmHWM")
    found = {"weights": weights, "peak": peak, "beyond weights": peak - before - weights, "supernet on disk": disk}
    return {name: value / MIB for name, value in found.items()}


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024


def measure_fresh(widths: dict[str, int], blocks: int, propagation: str, heap: str) -> dict[str, float]:
    """`measure` in a process of its own, with the heap's settings in its environment."""
    os.environ |= HEAPS[heap]
    try:
        with get_context("spawn").Pool(1) as fresh:
            return fresh.apply(measure, (widths, blocks, propagation == "uniform"))
    finally:
        for name in HEAPS[heap]:
            del os.environ[name]


def main() -> None:
    given = parse_arguments("build_memory", __doc__, rounds=1)
    if not Path("/proc/self/clear_refs").exists():
        raise SystemExit("build_memory: needs Linux's /proc to read and reset the peak of the resident set")
    widths = SMALL if given.quick else WIDTHS
    cases = [(*case, blocks) for case in CASES[: 1 if given.quick else None] for blocks in BLOCKS]
    rounds: dict[tuple[str, str, int], list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(1 if given.quick else given.rounds):
        for propagation, heap, blocks in cases:
            rounds[propagation, heap, blocks].append(measure_fresh(widths, blocks, propagation, heap))
    rows = [
        {"propagation": propagation, "heap": heap, "blocks": blocks}
        | {f"{key}, MiB": median(found[key] for found in taken) for key in taken[0]}
        for (propagation, heap, blocks), taken in rounds.items()
    ]
    checks = [_growth(few, many) for few, many in zip(rows[::2], rows[1::2], strict=True) if few["heap"] == "mapped"]
    single = [{"case": list(case), "rounds": taken} for case, taken in rounds.items()]
    finish(given, rows, checks, rounds=single, widths=widths, calibration_tokens=SEQUENCES * TOKENS)


def _growth(few: Row, many: Row) -> Check:
    ratio = many["beyond weights, MiB"] / few["beyond weights, MiB"]
    return Check(f"propagation {few['propagation']}: memory beyond weights, 24 / 12 blocks", ratio, MOST)


if __name__ == "__main__":
    main()
