"""The dense layout: an ordinary Hugging Face checkpoint in which pruned weights are zeros."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.files import disk_errors, write_json, write_text
from sparsearch.model.prunable import PrunableModel
from sparsearch.model.site import Site
from sparsearch.space import Profile

SiteWeights = Iterable[tuple[Site, Tensor]]


def export_dense(
    model: PrunableModel,
    weights: SiteWeights | Callable[[], SiteWeights],
    out: Path,
    *,
    profile: Profile,
    tokenizer: Any = None,
    card: str,
    config_yaml: str,
) -> None:
    """Writes `model` with `weights` in place as a folder that `from_pretrained` loads like any other.

    Every tensor is stored in `model.storage_dtype`, unless it came in a wider dtype that would lose bits
    (parameters that a model keeps in float32). Zeros of the sites are +0.0: some 2:4 kernels return garbage
    for -0.0. There is no quantization or sparsity entry in `config.json`, as loaders refuse those today. The
    folder appears under its name when it is complete, or not at all. Needs memory for one copy of the model
    in the storage dtype, on the CPU; the model in memory stays as it is.

    Args:
        model: whose checkpoint it is; what its sites hold at the moment does not matter.
        weights: (site, tensor `[out, in]`) for every site of the profile, or a function that returns them.
        out: the folder to write; it must not exist, or be empty.
        profile: stored as `sparsearch/profile.json`.
        tokenizer: saved beside the model, if there is one.
        card: content of `README.md`.
        config_yaml: the job's YAML, stored as `sparsearch/config.yaml`.

    Raises:
        ConfigError: `out` is taken, or `weights` are not those of the profile.
        ResourceError: the disk is full, or a weight leaves the range of the storage dtype.
    """
    check_exportable(model)
    with new_folder(out) as folder:
        state = _storage_state(model, _replacements(model, weights() if callable(weights) else weights, profile))
        _save_model(model, state, folder)
        write_beside(folder, model, profile, tokenizer, card, config_yaml)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that becomes `out` when the block ends well, and vanishes when not."""
    out = Path(out).resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out: {out} exists and is not an empty folder; choose another folder or delete this one")
    # A fixed name, so that what a killed export left behind is cleared by the next one.
    temporary = out.with_name(f".{out.name}.partial")
    try:
        with _disk_errors(out):
            if temporary.exists():
                shutil.rmtree(temporary)
            temporary.mkdir(parents=True)
            yield temporary
            for path in sorted(temporary.rglob("*")):
                if path.is_file():
                    _settle(path)
            os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """`disk_errors` for safetensors too, whose own exception wraps what the disk said."""
    try:
        with disk_errors(path):
            yield
    except SafetensorError as error:
        raise ResourceError(
            f"cannot write {path}: {error}; free space or choose another folder, then run the command again"
        ) from error


def _settle(path: Path) -> None:
    """Readable by others, as safetensors leaves it to the owner alone, and safe on the disk."""
    path.chmod(0o644)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def check_exportable(model: PrunableModel) -> None:
    """Refuses what transformers could not load again.

    Raises:
        ConfigError: the model is none of transformers'.
    """
    if not isinstance(model.module, PreTrainedModel):
        raise ConfigError(f"export: {type(model.module).__name__} is no transformers model; only those can be exported")


def stored_weights(model: PrunableModel, weights: SiteWeights, profile: Profile) -> Iterator[tuple[Site, Tensor]]:
    """Every site with its weight `[out, in]` as a checkpoint holds it: on the CPU, in the storage dtype, zeros +0.0.

    Raises:
        ConfigError: `weights` are not those of the profile.
        ResourceError: a weight leaves the range of the storage dtype.
    """
    wanted = {site["name"]: tuple(site["shape"]) for site in profile.sites}
    for site, tensor in weights:
        if wanted.pop(site.name, None) != tuple(tensor.shape):
            raise ConfigError(
                f"export: the weight of {site.name} {list(tensor.shape)} is not one that the profile lists; "
                "export with the supernet that the profile was made with"
            )
        stored = _positive_zeros(tensor.detach().to("cpu", model.storage_dtype))
        if not torch.isfinite(stored).all():
            raise ResourceError(
                f"export: {site.name} holds values that {model.storage_dtype} cannot; build the supernet "
                "again with another pruner or level grid"
            )
        yield site, stored
    if wanted:
        raise ConfigError(f"export: {len(wanted)} sites of the profile have no weight, first {min(wanted)}")


def write_beside(
    folder: Path, model: PrunableModel, profile: Profile, tokenizer: Any, card: str, config_yaml: str
) -> None:
    """What lies beside the weights of every layout: tokenizer, the model's own code, card, profile and job."""
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    _copy_remote_code(model, folder)
    write_text(folder / "README.md", card)
    profile.save(folder / "sparsearch" / "profile.json")
    write_text(folder / "sparsearch" / "config.yaml", config_yaml)


def _replacements(model: PrunableModel, weights: SiteWeights, profile: Profile) -> dict[int, Tensor]:
    """Parameter (by id) to its new value, as it is to be stored, in the layout of its module."""
    found: dict[int, Tensor] = {}
    for site, stored in stored_weights(model, weights, profile):
        linear = model.module.get_submodule(site.module)
        found[id(linear.weight)] = stored.T.contiguous() if isinstance(linear, Conv1D) else stored
    return found


def _positive_zeros(tensor: Tensor) -> Tensor:
    """`tensor` with every zero as +0.0."""
    return tensor.masked_fill(tensor == 0, 0.0)


def _storage_state(model: PrunableModel, replacements: dict[int, Tensor]) -> dict[str, Tensor]:
    """The state dict to save; names that share a parameter share the tensor, which keeps them tied."""
    stored: dict[int, Tensor] = dict(replacements)
    state = {}
    for name, tensor in model.module.state_dict(keep_vars=True).items():
        if id(tensor) not in stored:
            stored[id(tensor)] = _in_storage(tensor.detach(), model.storage_dtype)
        state[name] = stored[id(tensor)]
    return state


def _in_storage(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` on the CPU in `dtype` where that keeps its values, else as it is."""
    tensor = tensor.cpu()
    if not tensor.is_floating_point():
        return tensor
    converted = tensor.to(dtype)
    return converted if torch.equal(converted.to(tensor.dtype), tensor) else tensor


def _save_model(model: PrunableModel, state: dict[str, Tensor], folder: Path) -> None:
    """Config, generation config, the model's own code and `state`, by transformers' `save_pretrained`."""
    module: nn.Module = model.module
    # save_pretrained writes into the config it saves: give it a shell around the same modules, with a copy.
    shell: Any = copy.copy(module)
    shell.config = copy.deepcopy(module.config)
    shell.save_pretrained(folder, state_dict=state)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = model.storage_name
    write_json(folder / "config.json", config)


def _copy_remote_code(model: PrunableModel, folder: Path) -> None:
    """Python files of a local source folder, where its config refers to them (`auto_map`)."""
    config: Any = model.module.config
    source = Path(config._name_or_path or model.name)
    if not getattr(config, "auto_map", None) or not source.is_dir():
        return
    for path in sorted(source.glob("*.py")):
        if not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
