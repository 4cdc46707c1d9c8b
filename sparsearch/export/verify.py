"""Reloading an export in a fresh process, the way its users will, and comparing what comes out.

`python -m sparsearch.export.verify FOLDER` is the child: it reads `request.json` and `inputs.safetensors` in
FOLDER and writes `outputs.safetensors` and `found.json` beside them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import sparsearch.runtime
from sparsearch.errors import ResourceError
from sparsearch.files import read_json, write_json
from sparsearch.space import Profile

REQUEST = "request.json"
INPUTS = "inputs.safetensors"
OUTPUTS = "outputs.safetensors"
FOUND = "found.json"


@dataclass(frozen=True)
class VerifyResult:
    """What a verified export was found to be.

    Attributes:
        max_difference: largest absolute difference of a logit; 0.0 when all are equal.
        zeros: site name to the number of zeros in its reloaded weight.
        sparsity: fraction of zeros over all sites together.
    """

    max_difference: float
    zeros: dict[str, int]
    sparsity: float


def forward_logits(module: nn.Module, input_ids: Tensor) -> Tensor:
    """What `verify_export` compares: logits `[n, tokens, vocabulary]`, without a head the last hidden states.

    Args:
        module: any transformers model.
        input_ids: int64 `[n, tokens]`; moved to the module's device.

    Returns:
        A tensor on the CPU in the dtype of the computation.
    """
    device = next(module.parameters()).device
    with torch.no_grad():
        output = module(input_ids=input_ids.to(device), use_cache=False)
    result = output.logits if "logits" in output else output.last_hidden_state
    return result.cpu().contiguous()


def verify_export(
    out: Path,
    *,
    input_ids: Tensor,
    expected_logits: Tensor,
    profile: Profile,
    device: str | torch.device,
    dtype: torch.dtype,
    auto_class: str = "AutoModelForCausalLM",
    trust_remote_code: bool = False,
    tolerance: float = 0.0,
    layout: str = "dense",
) -> VerifyResult:
    """Loads `out` in a new Python process and compares it with the model that was exported.

    Equality to the last bit is what an equal device, dtype and batch give: the child uses the same number of
    threads. Cost: starting Python, torch and transformers (some seconds), one load, one forward.

    Args:
        out: the exported folder.
        input_ids: int64 `[n, tokens]`.
        expected_logits: `forward_logits` of the live model on `input_ids`, profile switched in.
        profile: what the sites' zeros are held against.
        device: where the live model computed.
        dtype: what the live model computed in.
        auto_class: `AutoModelForCausalLM`, or `AutoModel` for a model without a head.
        trust_remote_code: only if the original model needed it.
        tolerance: largest difference of a logit to accept, relative to the largest logit.
        layout: dense, or runtime, which the child opens with `sparsearch.runtime.load`.

    Raises:
        ResourceError: the export does not load, lacks weights, computes something else, has -0.0 where zeros
            belong, or a site has fewer zeros than the profile says.
    """
    out = Path(out).resolve()
    request = {
        "out": str(out),
        "layout": layout,
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "auto_class": auto_class,
        "trust_remote_code": trust_remote_code,
        "threads": torch.get_num_threads(),
        "sites": [site["name"] for site in profile.sites],
    }
    with tempfile.TemporaryDirectory(prefix="sparsearch-verify-") as name:
        folder = Path(name)
        write_json(folder / REQUEST, request)
        save_file({"input_ids": input_ids.cpu().contiguous()}, folder / INPUTS)
        _run_child(folder, out)
        found = read_json(folder / FOUND)
        logits = load_file(folder / OUTPUTS)["logits"]
    _check_weights(out, found, profile)
    difference = _max_difference(out, logits, expected_logits.cpu())
    allowed = tolerance * float(expected_logits.abs().max()) if tolerance else 0.0
    if not difference <= allowed:
        raise ResourceError(
            f"verify: {out} computes other logits than the model in memory (largest difference "
            f"{difference:.3g}, allowed {allowed:.3g}); delete the folder and export again"
        )
    zeros = {site: counts["zeros"] for site, counts in found["sites"].items()}
    return VerifyResult(difference, zeros, sum(zeros.values()) / sum(s["size"] for s in found["sites"].values()))


def _run_child(folder: Path, out: Path) -> None:
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    # `-m` puts the working directory first on the import path: the folder that holds our files alone.
    child = subprocess.run(
        [sys.executable, "-m", "sparsearch.export.verify", str(folder)],
        cwd=folder, env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if child.returncode:
        lines = [line.strip() for line in child.stderr.splitlines() if line.strip()]
        cause = lines[-1] if lines else f"it ended with code {child.returncode}"
        raise ResourceError(
            f"verify: {out} does not load in a fresh process ({cause}); delete the folder and export again"
        )


def _check_weights(out: Path, found: dict[str, Any], profile: Profile) -> None:
    if found["missing"]:
        raise ResourceError(
            f"verify: {out} lacks {len(found['missing'])} weights, first {found['missing'][0]}; "
            "delete the folder and export again"
        )
    for site in profile.sites:
        counts = found["sites"][site["name"]]
        removed = round(site["sparsity"] * counts["size"])
        if counts["zeros"] < removed:
            raise ResourceError(
                f"verify: {site['name']} in {out} has {counts['zeros']} zeros, the profile removes "
                f"{removed}; delete the folder and export again"
            )
        if counts["negative_zeros"]:
            raise ResourceError(
                f"verify: {site['name']} in {out} has {counts['negative_zeros']} zeros stored as -0.0, which "
                "some sparse kernels misread; delete the folder and export again"
            )


def _max_difference(out: Path, found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        raise ResourceError(
            f"verify: {out} returns logits {list(found.shape)}, the model in memory {list(expected.shape)}; "
            "verify with the inputs that the expected logits were made from"
        )
    if torch.equal(found, expected):
        return 0.0
    # Sequence by sequence: a float64 copy of all logits of a large vocabulary would not fit.
    differences = [(a.double() - b.double()).abs().max() for a, b in zip(found, expected, strict=True)]
    return float(torch.stack(differences).max())


def _child(folder: Path) -> None:
    request = read_json(folder / REQUEST)
    torch.set_num_threads(request["threads"])
    module, missing = _load_runtime(request) if request["layout"] == "runtime" else _load_dense(request)
    sites = {name: _count(_weight(module.get_submodule(name))) for name in request["sites"]}
    logits = forward_logits(module, load_file(folder / INPUTS)["input_ids"])
    save_file({"logits": logits}, folder / OUTPUTS)
    write_json(folder / FOUND, {"sites": sites, "missing": missing})


def _load_dense(request: dict[str, Any]) -> tuple[Any, list[str]]:
    """The model as transformers loads it, and the weights that it has not found."""
    module, info = getattr(transformers, request["auto_class"]).from_pretrained(
        request["out"],
        dtype=getattr(torch, request["dtype"]),
        trust_remote_code=request["trust_remote_code"],
        output_loading_info=True,
    )
    return module.eval().to(request["device"]), sorted(info["missing_keys"])


def _load_runtime(request: dict[str, Any]) -> tuple[Any, list[str]]:
    """A runtime misses nothing, or does not load."""
    return sparsearch.runtime.load(request["out"], trust_remote_code=request["trust_remote_code"]), []


def _weight(module: nn.Module) -> Tensor:
    weight: Any = module.unpacked() if isinstance(module, sparsearch.runtime.PackedLinear) else module.weight
    return weight


def _count(weight: Tensor) -> dict[str, int]:
    zero = weight == 0
    negative = zero & torch.signbit(weight)
    return {"size": weight.numel(), "zeros": int(zero.sum()), "negative_zeros": int(negative.sum())}


if __name__ == "__main__":
    _child(Path(sys.argv[1]))
