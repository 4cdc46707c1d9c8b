"""Tokens per second of whole models, dense and on our runtime: one-token decode through `generate()`, and prefill.

Models: a randomly initialised Llama of 213 million parameters at real shapes (16 blocks of width 1024, MLP 2816,
vocabulary 32000, bfloat16 checkpoint), and the embedded one. Weights of the blocks are set to zero at random, every
one at the same sparsity: speed depends on nothing else. Dense are: torch's float32 (`F.linear`), the same with
oneDNN's prepacked weights, and bfloat16. The runtimes hold bfloat16 values and compute in float32, or where it says so
in bfloat16, which costs tokens and makes prompts faster. All are timed in turning order in every round, medians over
rounds; memory and loading are those of a fresh process that loads the folder and generates 4 tokens.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from common import RESULTS, SEED, Check, Row, finish, interleaved
from large_model import large
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import sparsearch.runtime
from sparsearch.export.runtime import export_runtime
from sparsearch.hardware.kernels import BACKENDS
from sparsearch.model.load import load_model
from sparsearch.model.prunable import PrunableModel
from sparsearch.model.sites import find_sites, site_weight
from sparsearch.space import Profile

SPARSITIES = (0.5, 0.6, 0.7, 0.8)
LEADS = {0.6: 2.0, 0.8: 2.8}
"""How many times faster than the best dense path the large model is to decode."""
PROMPT, NEW, PREFILL = 16, 32, 256


class Prepacked(nn.Module):
    """A linear on oneDNN's prepacked weights."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.backend = BACKENDS["dense_prepacked"]
        self.packed = self.backend.pack(weight)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        product = self.backend.matmul(x.reshape(-1, x.shape[-1]), self.packed).view(*x.shape[:-1], -1)
        return product if self.bias is None else product + self.bias


def export(model: PrunableModel, sparsity: float, folder: Path) -> None:
    """The runtime of `model` with random zeros in all sites."""
    generator = torch.Generator().manual_seed(SEED)
    weights, sites = [], []
    for site in find_sites(model):
        weight = site_weight(model.module, site).contiguous().clone()
        weight[torch.rand(weight.shape, generator=generator) < sparsity] = 0.0
        weights.append((site, weight))
        sites.append({
            "name": site.name, "kind": site.kind, "block": site.block, "shape": list(site.shape),
            "level": f"{sparsity:g}", "sparsity": sparsity,
        })  # fmt: skip
    profile = Profile(tuple(sites), {"sparsity": f"{sparsity:g}"}, {})
    export_runtime(model, weights, folder, profile=profile, card="", config_yaml="")


def variants(model: PrunableModel, folder: Path) -> dict[str, Path]:
    """Name to a folder that holds it."""
    found = {"dense float32": folder / "float32", "dense bfloat16": folder / "bfloat16"}
    module: Any = model.module
    module.save_pretrained(found["dense float32"])
    for sparsity in SPARSITIES:
        found[f"runtime {sparsity:.0%}"] = folder / f"runtime-{sparsity:g}"
        export(model, sparsity, found[f"runtime {sparsity:.0%}"])
    module.to(torch.bfloat16).save_pretrained(found["dense bfloat16"])
    for sparsity in LEADS:
        found[f"runtime {sparsity:.0%} bfloat16"] = folder / f"runtime-bfloat16-{sparsity:g}"
        export(model, sparsity, found[f"runtime {sparsity:.0%} bfloat16"])
    return found


def open_variant(name: str, folder: Path) -> Any:
    """The model in evaluation mode."""
    if name.startswith("runtime"):
        return sparsearch.runtime.load(folder)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=name.removeprefix("dense ")).eval()


def prepacked(folder: Path) -> Any:
    """The dense float32 model with all its linears, the output projection too, on oneDNN's weights."""
    module = open_variant("dense float32", folder)
    linears = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    for name, linear in linears.items():
        module.set_submodule(name, Prepacked(linear.weight.detach().contiguous(), linear.bias))
    return module


def generate(module: Any, new: int) -> None:
    prompt = torch.arange(PROMPT)[None]
    module.generate(prompt, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0)


@torch.no_grad()
def prefill(module: Any, tokens: int) -> None:
    module(input_ids=torch.arange(tokens)[None], use_cache=False)


def fresh(name: str, folder: Path, threads: int) -> dict[str, float]:
    """What a fresh process finds: seconds to load, and MiB at most."""
    command = [sys.executable, __file__, "--child", name, str(folder), "--threads", str(threads)]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return found


def peak_memory() -> float:
    """MiB of this process at most. `ru_maxrss` would count what the parent had when it forked."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def child(name: str, folder: Path) -> None:
    begun = time.perf_counter()
    module = open_variant(name, folder)
    seconds = time.perf_counter() - begun
    generate(module, 4)
    print(json.dumps({"load": seconds, "MiB": peak_memory()}))


def measure(label: str, model: PrunableModel, threads: int, rounds: int, quick: bool) -> list[Row]:
    """A row a variant."""
    new, tokens = (4, 32) if quick else (NEW, PREFILL)
    torch.set_num_threads(threads)
    with TemporaryDirectory() as name:
        folders = variants(model, Path(name))
        memory = {variant: fresh(variant, folder, threads) for variant, folder in folders.items()}
        modules = {variant: open_variant(variant, folder) for variant, folder in folders.items()}
        modules["dense prepacked"] = prepacked(folders["dense float32"])
        for module in modules.values():
            generate(module, 2)
        cases: dict[str, Callable[[], object]] = {}
        for variant, module in modules.items():
            # A generation of one token is the prompt alone: the difference is what the others take.
            cases[f"one {variant}"] = partial(generate, module, 1)
            cases[f"all {variant}"] = partial(generate, module, new + 1)
            cases[f"prefill {variant}"] = partial(prefill, module, tokens)
        timings = interleaved(cases, rounds)
    decode = {
        variant: [
            long.wall - short.wall
            for long, short in zip(timings[f"all {variant}"], timings[f"one {variant}"], strict=True)
        ]
        for variant in modules
    }
    full = {variant: [timing.wall for timing in timings[f"prefill {variant}"]] for variant in modules}
    dense = [variant for variant in modules if variant.startswith("dense")]
    best = {kind: min(dense, key=lambda v: median(taken[v])) for kind, taken in (("decode", decode), ("full", full))}
    return [
        {
            "model": label, "threads": threads, "variant": variant,
            "decode tokens/s": new / median(decode[variant]),
            "decode speed-up": median(b / own for b, own in zip(decode[best["decode"]], decode[variant], strict=True)),
            "prefill tokens/s": tokens / median(full[variant]),
            "prefill speed-up": median(b / own for b, own in zip(full[best["full"]], full[variant], strict=True)),
            "peak MiB of the process": memory.get(variant, {}).get("MiB", "-"),
            "load s": memory.get(variant, {}).get("load", "-"),
        }
        for variant in sorted(modules)
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", nargs="+", choices=["large", "reference"], default=["large", "reference"])
    parser.add_argument("--out", type=Path, default=RESULTS / "end_to_end.json")
    parser.add_argument("--quick", action="store_true", help="small and inexact, in seconds: does it still run?")
    parser.add_argument("--child", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        torch.set_num_threads(given.threads[0])
        child(given.child[0], Path(given.child[1]))
        return
    rows: list[Row] = []
    for label in given.models[:1] if given.quick else given.models:
        for threads in given.threads[:1] if given.quick else given.threads:
            model = large(given.quick) if label == "large" else load_model("reference", device="cpu")
            rows += measure(label, model, threads, 1 if given.quick else given.rounds, given.quick)
    checks = [
        Check(f"time of the best dense decode, {row['threads']} threads, {row['variant']}",
              1 / row["decode speed-up"], 1 / lead)
        for row in rows
        for sparsity, lead in LEADS.items()
        if row["model"] == "large" and row["variant"] == f"runtime {sparsity:.0%}"
    ]  # fmt: skip
    finish(given, rows, checks)


if __name__ == "__main__":
    main()
