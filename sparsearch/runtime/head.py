"""The output projection of a runtime: packed too where that makes it smaller, though it is pruned nowhere."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from sparsearch.hardware.kernels import Packed, StoredBackend
from sparsearch.model.prunable import PrunableModel
from sparsearch.runtime.choice import pack_smallest
from sparsearch.runtime.linear import Form, PackedLinear


def pack_head(model: PrunableModel, packed: Collection[str]) -> dict[str, tuple[StoredBackend, Packed]]:
    """Module path to the form of the output projection: every token reads all of it.

    Empty where there is none, it is no plain linear, it is in `packed`, or no form of its very values is smaller than
    what it is computed in.
    """
    module: Any = model.module
    head = getattr(module, "get_output_embeddings", lambda: None)()
    names = [name for name, found in module.named_modules() if found is head and name not in packed]
    if type(head) is not nn.Linear or not names:
        return {}
    weight = head.weight.detach().cpu()
    backend, form = pack_smallest(weight.to(torch.float32))
    return {name: (backend, form) for name in names} if form.bytes < weight.nbytes else {}


def packed_head(model: PrunableModel) -> dict[str, nn.Module]:
    """The runtime's module of the output projection by its path, for a model whose sites are all in its blocks."""
    found: dict[str, nn.Module] = {}
    for name, (backend, form) in pack_head(model, ()).items():
        own: Any = model.module.get_submodule(name)
        bias = None if own.bias is None else own.bias.detach()
        found[name] = PackedLinear([Form(backend, form)], bias, own.weight.dtype)
    return found
