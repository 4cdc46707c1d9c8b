"""Opening a runtime folder: `load(path)` gives a transformers model on packed linears."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.initialization import no_init_weights

from sparsearch.errors import ResourceError
from sparsearch.hardware.kernels import BACKENDS, StoredBackend
from sparsearch.hardware.kernels.dense import Dense
from sparsearch.runtime.files import PACKED, STATE, FormIndex, LinearIndex, RuntimeIndex, read_index, read_mapped
from sparsearch.runtime.linear import Form, PackedLinear

DENSE = Dense()


def load(path: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The transformers model of a folder that `sparsearch export --layout runtime` wrote, on the CPU.

    Its linears are `PackedLinear`; everything else is as transformers makes it, `generate()` included. Tensors are
    mapped from the files, not read: they come into memory when they are first used. Packed weights of our own
    kernels are copied once, to large pages, from which they are read much faster. A weight that is packed for a
    backend that this machine lacks is unpacked and runs dense, and a warning says which and why.

    Args:
        path: the folder.
        trust_remote_code: whether Python code in the folder may run, for models that need it.

    Raises:
        ResourceError: the folder is no runtime, or a file in it is damaged.
    """
    folder = Path(path)
    index = read_index(folder)
    packed, state = read_mapped(folder / PACKED), read_mapped(folder / STATE)
    model = _empty_model(folder, index, trust_remote_code)
    lacking: dict[str, str] = {}
    # First what is tied, then the packed linears: a packed output projection shares nothing with the embedding.
    _check_layers(model, index, folder)
    biases = {linear.module: state.pop(f"{linear.module}.bias", None) for linear in index.linears}
    _fill(model, state, set(biases), folder)
    for linear in index.linears:
        dtype = getattr(torch, index.dtype)
        forms = _forms(linear, packed, folder, dtype, lacking)
        model.set_submodule(linear.module, PackedLinear(forms, biases[linear.module], dtype))
    _untie(model, biases)
    if lacking:
        _warn(index, lacking)
    return model.eval().requires_grad_(False)


def _empty_model(folder: Path, index: RuntimeIndex, trust_remote_code: bool) -> Any:
    """The model with whatever was in memory as its weights: pages that nobody touches cost nothing."""
    if index.trust_remote_code and not trust_remote_code:
        raise ResourceError(
            f"{folder} needs Python code that came with the model; "
            "call load(..., trust_remote_code=True) if you trust it"
        )
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        with no_init_weights():
            model = getattr(transformers, index.auto_class).from_config(
                config, dtype=getattr(torch, index.dtype), trust_remote_code=trust_remote_code
            )
    except (OSError, ValueError, KeyError) as error:
        raise ResourceError(f"{folder}: transformers cannot make the model ({error}); export it again") from error
    if model.can_generate() and (folder / "generation_config.json").is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    return model


def _forms(
    linear: LinearIndex, packed: Mapping[str, Tensor], folder: Path, dtype: torch.dtype, lacking: dict[str, str]
) -> list[Form]:
    """All forms of a weight; one alone that is dense where several would be."""
    forms = [_form(linear, form, packed, folder, dtype, lacking) for form in linear.forms]
    return forms[-1:] if all(form.backend is DENSE for form in forms) else forms


def _form(
    linear: LinearIndex,
    form: FormIndex,
    packed: Mapping[str, Tensor],
    folder: Path,
    dtype: torch.dtype,
    lacking: dict[str, str],
) -> Form:
    """The form as it is stored, or dense where its backend is unavailable here; notes that in `lacking`."""
    where = f"{folder / PACKED}: {linear.module}"
    backend = BACKENDS.get(form.backend)
    if not isinstance(backend, StoredBackend):
        raise ResourceError(
            f"{where}: this version of sparsearch has no kernel {form.backend!r} that reads files; use the version "
            "that wrote the folder, or export it again"
        )
    missing = [stored for stored in form.tensors.values() if stored not in packed]
    if missing:
        raise ResourceError(f"{where}: {missing[0]} is missing; export it again")
    tensors = {name: packed[stored] for name, stored in form.tensors.items()}
    reason = backend.unavailable()
    try:
        if reason is None:
            return Form(backend, backend.open(linear.shape, tensors), form.most_tokens)
        backend.check(linear.shape, tensors)
    except ResourceError as error:
        raise ResourceError(f"{where} is damaged, export it again ({error})") from error
    lacking[form.backend] = reason
    return Form(DENSE, DENSE.pack(backend.unpack(linear.shape, tensors).to(dtype)), form.most_tokens)


def _check_layers(model: nn.Module, index: RuntimeIndex, folder: Path) -> None:
    layers = {name for name, _ in model.named_modules() if name}
    unknown = [linear.module for linear in index.linears if linear.module not in layers]
    if unknown:
        raise ResourceError(f"{folder}: the model has no layer {unknown[0]}; config.json is of another model")


def _fill(model: Any, state: Mapping[str, Tensor], packed: set[str], folder: Path) -> None:
    """Puts the mapped parameters and buffers in place of the empty ones but of `packed`, and ties what is tied."""
    modules = dict(model.named_modules())
    wanted = dict([*model.named_parameters(), *model.named_buffers()])
    for name, tensor in state.items():
        if name not in wanted or wanted[name].shape != tensor.shape:
            raise ResourceError(f"{folder / STATE}: the model has no {name} {list(tensor.shape)}; export it again")
        owner, _, leaf = name.rpartition(".")
        holder = modules[owner]._parameters if leaf in modules[owner]._parameters else modules[owner]._buffers
        holder[leaf] = nn.Parameter(tensor, requires_grad=False) if holder is modules[owner]._parameters else tensor
    model.tie_weights()
    filled = {id(tensor) for name, tensor in _all_tensors(model) if name in state}
    others = [(name, tensor) for name, tensor in _all_tensors(model) if name.rpartition(".")[0] not in packed]
    left = [name for name, tensor in others if id(tensor) not in filled]
    if left:
        raise ResourceError(f"{folder / STATE}: {left[0]} is missing; export it again")


def _untie(model: Any, packed: Collection[str]) -> None:
    """Has the model say that an output projection that is packed shares nothing: `tie_weights` would replace it."""
    sources = getattr(model, "all_tied_weights_keys", {})
    tied = {target for target in sources if target.rpartition(".")[0] in packed}
    if tied:
        model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = False
        model.all_tied_weights_keys = {name: source for name, source in sources.items() if name not in tied}


def _all_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]


def _warn(index: RuntimeIndex, lacking: Mapping[str, str]) -> None:
    count = sum(any(form.backend in lacking for form in linear.forms) for linear in index.linears)
    reasons = "; ".join(f"{name}: {reason}" for name, reason in lacking.items())
    warnings.warn(
        f"{count} of {len(index.linears)} weights are packed for kernels that this machine lacks ({reasons}); "
        "they run dense, with the same results but no gain in memory or time",
        RuntimeWarning,
        stacklevel=3,
    )
