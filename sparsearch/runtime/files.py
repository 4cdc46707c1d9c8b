"""The files of a runtime folder: `runtime.json` and two safetensors files."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sparsearch.errors import ResourceError
from sparsearch.files import read_json

INDEX = "runtime.json"
PACKED = "packed.safetensors"
STATE = "state.safetensors"
ALIGNMENT = 64

TYPES = {
    "torch.float64": "F64", "torch.float32": "F32", "torch.bfloat16": "BF16", "torch.float16": "F16",
    "torch.int64": "I64", "torch.int32": "I32", "torch.int16": "I16", "torch.int8": "I8",
    "torch.uint8": "U8", "torch.bool": "BOOL",
}  # fmt: skip

Extent = Annotated[int, Field(ge=1, lt=2**31)]


class FormIndex(BaseModel):
    """One packed form: its backend and its tensors, by their names in the backend."""

    model_config = ConfigDict(extra="forbid")
    backend: str
    most_tokens: Extent | None = None
    tensors: dict[str, str]


class LinearIndex(BaseModel):
    """One packed linear: where it lies in the model, its shape `(out, in)` and its forms."""

    model_config = ConfigDict(extra="forbid")
    module: str
    shape: tuple[Extent, Extent]
    forms: Annotated[list[FormIndex], Field(min_length=1)]


class RuntimeIndex(BaseModel):
    """The content of `runtime.json`.

    Attributes:
        auto_class: transformers' class that makes the model from its config.
        dtype: what the model computes in.
        trust_remote_code: whether the model needs Python code of its own, which the caller has to allow.
    """

    model_config = ConfigDict(extra="forbid")
    format: Literal["sparsearch-runtime"] = "sparsearch-runtime"
    version: Literal[1] = 1
    auto_class: Literal["AutoModelForCausalLM", "AutoModel"]
    dtype: Literal["float16", "bfloat16", "float32", "float64"]
    trust_remote_code: bool = False
    linears: list[LinearIndex]


def read_index(folder: Path) -> RuntimeIndex:
    """The index of a runtime folder, checked.

    Raises:
        ResourceError: it is missing, or not what this version writes; the message names the field.
    """
    path = folder / INDEX
    if not path.is_file():
        raise ResourceError(
            f"{folder} is no runtime folder (no {INDEX}); make one with sparsearch export RUN --layout runtime"
        )
    try:
        return RuntimeIndex.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ResourceError(f"{path}: {field}: {first['msg']}; export it again") from error


def write_aligned(tensors: Mapping[str, Tensor], path: Path) -> None:
    """A safetensors file in which every tensor begins at a cache line, so that kernels can work on the mapped file.

    The format wants no gaps between tensors, so each is followed by filler tensors `name~` of the missing bytes;
    the header, which may end in spaces, fills the rest of its last line. Nothing is copied to lay it out.
    """
    header, offset = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        end = offset + size
        header[name] = {"dtype": TYPES[str(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        filler = -size % ALIGNMENT
        if filler:
            header[f"{name}~"] = {"dtype": "U8", "shape": [filler], "data_offsets": [end, end + filler]}
        offset = end + filler
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
            file.write(data.tobytes() + bytes(-len(data) % ALIGNMENT))


def read_mapped(path: Path) -> dict[str, Tensor]:
    """All tensors of a file that `write_aligned` wrote; their memory is the mapped file, read when it is touched.

    Raises:
        ResourceError: it is missing or damaged.
    """
    try:
        return dict(_tensors(path))
    except (OSError, SafetensorError) as error:
        raise ResourceError(f"{path} is missing or damaged ({error}); export it again") from error


def _tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118
            if not name.endswith("~"):
                yield name, file.get_tensor(name)
