"""The output projection of a runtime: packed too where a kernel of ours takes no more bytes, though it is dense."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from sparsearch.hardware.kernels import Packed, StoredBackend
from sparsearch.hardware.kernels.dense import Dense
from sparsearch.model.prunable import PrunableModel
from sparsearch.runtime.choice import pack_smallest
from sparsearch.runtime.linear import Form, PackedLinear

PADDED = 1.01
"""How much larger than plain weights a form of as many bits may be: an odd vocabulary is padded by a row."""


def pack_head(model: PrunableModel, packed: Collection[str]) -> dict[str, tuple[StoredBackend, Packed]]:
    """Module path to the form of the output projection: every token reads all of it.

    Empty where there is none, it is no plain linear, it is in `packed`, or no form of its very values but the plain
    one is as small as what it is computed in. (Of the same size in bfloat16 ours are several times as fast for one
    token as torch's; where it is tied, the embedding stays beside it.)
    """
    module: Any = model.module
    head = getattr(module, "get_output_embeddings", lambda: None)()
    names = [name for name, found in module.named_modules() if found is head and name not in packed]
    if type(head) is not nn.Linear or not names:
        return {}
    weight = head.weight.detach().cpu()
    backend, form = pack_smallest(weight.to(torch.float32))
    if isinstance(backend, Dense) or form.bytes > PADDED * weight.nbytes:
        return {}
    return {name: (backend, form) for name in names}


def packed_head(model: PrunableModel) -> dict[str, nn.Module]:
    """The runtime's module of the output projection by its path, for a model whose sites are all in its blocks."""
    found: dict[str, nn.Module] = {}
    for name, (backend, form) in pack_head(model, ()).items():
        own: Any = model.module.get_submodule(name)
        bias = None if own.bias is None else own.bias.detach()
        found[name] = PackedLinear([Form(backend, form)], bias, own.weight.dtype)
    return found
