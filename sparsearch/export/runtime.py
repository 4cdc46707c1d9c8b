"""The runtime layout: weights packed for the kernels, for `sparsearch.runtime.load`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsearch.export.dense import SiteWeights, check_exportable, new_folder, stored_weights, write_beside
from sparsearch.files import write_json
from sparsearch.hardware.kernels import Packed, StoredBackend
from sparsearch.model.prunable import PrunableModel
from sparsearch.runtime.choice import Forms, pack_smallest
from sparsearch.runtime.files import INDEX, PACKED, STATE, FormIndex, LinearIndex, RuntimeIndex, write_aligned
from sparsearch.runtime.head import pack_head
from sparsearch.space import Profile


def export_runtime(
    model: PrunableModel,
    weights: SiteWeights | Callable[[], SiteWeights],
    out: Path,
    *,
    profile: Profile,
    tokenizer: Any = None,
    card: str,
    config_yaml: str,
    forms: Mapping[str, Forms] | None = None,
) -> None:
    """Writes `model` with `weights` packed, for a CPU: smaller in memory and on disk, and faster for few tokens.

    A weight is rounded to the checkpoint's dtype, as the dense layout rounds it, and packed for its backends, or else
    in the smallest form whose values are those (`runtime.choice`); level 0 as well, and the output projection where a
    kernel of ours needs no more bytes, though it is pruned nowhere: every token reads all of it. What else is no site
    stays in the dtype that the model computes in here, so that it is used where the file is mapped. Other arguments
    and errors: as `export_dense`. Needs memory for the packed weights.

    Args:
        forms: what to pack sites for, by name (`fastest_forms`); None: every one in its smallest form.
    """
    check_exportable(model)
    with new_folder(out) as folder:
        linears, packed = _packed(model, weights() if callable(weights) else weights, profile, forms or {})
        for module, form in pack_head(model, {linear.module for linear in linears}).items():
            linears.append(_add(module, [(*form, None)], packed))
        write_aligned(packed, folder / PACKED)
        write_aligned(_state(model, {linear.module for linear in linears}), folder / STATE)
        write_json(folder / INDEX, _index(model, linears).model_dump(exclude_none=True))
        _save_config(model, folder)
        write_beside(folder, model, profile, tokenizer, card, config_yaml)


def _packed(
    model: PrunableModel, weights: SiteWeights, profile: Profile, forms: Mapping[str, Forms]
) -> tuple[list[LinearIndex], dict[str, Tensor]]:
    """The index and the tensors of all sites."""
    linears: list[LinearIndex] = []
    tensors: dict[str, Tensor] = {}
    for site, stored in stored_weights(model, weights, profile):
        weight = stored.to(torch.float32)
        chosen = [(backend, backend.pack(weight), most) for backend, most in forms.get(site.name, ())]
        linears.append(_add(site.module, chosen or [(*pack_smallest(weight), None)], tensors))
    return linears, tensors


def _add(
    module: str, forms: Iterable[tuple[StoredBackend, Packed, int | None]], tensors: dict[str, Tensor]
) -> LinearIndex:
    """The entry of one weight with the most tokens of each form; puts what is stored of it into `tensors`."""
    found = []
    for backend, packed, most in forms:
        shape, names = packed.shape, {name: f"{module}:{backend.name}:{name}" for name in packed.tensors}
        tensors.update({names[name]: tensor for name, tensor in packed.tensors.items()})
        found.append(FormIndex(backend=backend.name, most_tokens=most, tensors=names))
    return LinearIndex(module=module, shape=shape, forms=found)


def _state(model: PrunableModel, packed: set[str]) -> dict[str, Tensor]:
    """Parameters and buffers but the packed weights, each once; those that no checkpoint has, too.

    What the embedding shares with a packed output projection stays, for the embedding.
    """
    module, state, seen = model.module, {}, set()
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    for name, tensor in tensors:
        owner, _, leaf = name.rpartition(".")
        if owner in packed and leaf == "weight":
            continue
        if id(tensor) not in seen:
            state[name] = tensor.detach().cpu().contiguous()
        seen.add(id(tensor))
    return state


def _index(model: PrunableModel, linears: list[LinearIndex]) -> RuntimeIndex:
    module: Any = model.module
    dtype: Any = str(next(module.parameters()).dtype).removeprefix("torch.")
    has_head = module.get_output_embeddings() is not None
    return RuntimeIndex(
        auto_class="AutoModelForCausalLM" if has_head else "AutoModel",
        dtype=dtype,
        trust_remote_code=bool(getattr(module.config, "auto_map", None)),
        linears=linears,
    )


def _save_config(model: PrunableModel, folder: Path) -> None:
    module: Any = model.module
    config = copy.deepcopy(module.config)
    config.architectures = [type(module).__name__]
    config.save_pretrained(folder)
    if module.can_generate():
        module.generation_config.save_pretrained(folder)
