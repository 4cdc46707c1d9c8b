"""Our own CPU kernels: a small C++ library without torch or Python in it, opened through ctypes.

It is built with the package where a C++ compiler is found. On x86-64 it chooses its instructions at run time: AVX-512
with VBMI2 (and bfloat16 products but on Intel, where they are slow), with AMX for two tokens and more, AVX2, or what
every processor has; on 64-bit ARM that is NEON.
"""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor


def levels_of(machine: str) -> tuple[str, ...]:
    """Sets of instructions that the kernels use on `platform.machine()`, from the least to the most demanding."""
    if machine in ("aarch64", "arm64"):
        return ("portable", "neon")
    return ("portable", "avx2", "avx512", "avx512_bf16", "amx")


LEVELS = levels_of(platform.machine())
"""Those of this machine; the library counts them likewise."""


class BitmaskWeight(ctypes.Structure):
    """`struct Bitmask` of kernels.h."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("masks", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("kind", ctypes.c_int32),
        ("finite", ctypes.c_int32),
    )


class Csr16Weight(ctypes.Structure):
    """`struct Csr16` of kernels.h."""

    _fields_ = (
        ("rows", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("chunks", ctypes.c_int64),
        ("starts", ctypes.c_void_p),
        ("indices", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Handle:
    """A weight as the library sees it, and the tensors whose memory it points into."""

    weight: BitmaskWeight | Csr16Weight
    address: int
    tensors: tuple[Tensor, ...]


def handle(weight: BitmaskWeight | Csr16Weight, *tensors: Tensor) -> Handle:
    """Keeps `tensors` alive as long as `weight`."""
    return Handle(weight, ctypes.addressof(weight), tensors)


@cache
def library() -> ctypes.CDLL | None:
    """The library, or None where it was not built."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(f"kernels{suffix}")
        if path.exists():
            return _declare(ctypes.CDLL(str(path)))
    return None


def unavailable() -> str | None:
    """Why the library cannot be used; None where it can."""
    try:
        found = library()
    except OSError as error:
        return f"the native library does not load: {error}"
    except AttributeError:
        return "the native library was built from another version of sparsearch; install again"
    if found is None:
        return "the native library was not built (no C++17 compiler at install; get one and install again)"
    return None


def level() -> str:
    """The instructions that this processor has, one of `LEVELS`."""
    return LEVELS[_loaded().sparsearch_best_level()]


def product(function: str, weight: Handle, x: Tensor, rows: int) -> Tensor:
    """`x @ W.T` of x `[..., columns]` by a function of the library, with torch's number of threads.

    The library sees float32; the result has the type of x.

    Raises:
        ValueError: x does not fit the weight.
    """
    given = inputs(weight, x)
    out = torch.empty(*x.shape[:-1], rows)
    call, tokens = getattr(library(), function), given.numel() // given.shape[-1]
    if call(weight.address, given.data_ptr(), tokens, out.data_ptr(), torch.get_num_threads()):
        raise MemoryError(f"no memory for the inputs of a product with {tokens} tokens")
    return out if x.dtype == torch.float32 else out.to(x.dtype)


def widen(weight: Handle, first: int, to: Tensor) -> None:
    """Writes rows of a bit mask's weight from `first`, which is even, into `to` `[rows, columns]`.

    It is float32, or bfloat16 where the weight `spreads`.
    """
    found = _loaded()
    write = found.sparsearch_bitmask_rows if to.dtype == torch.float32 else found.sparsearch_bitmask_bfloat16_rows
    write(weight.address, first, first + len(to), to.data_ptr(), torch.get_num_threads())


def spreads(weight: Handle) -> bool:
    """Whether `widen` writes bfloat16 too: the weight is stored in it, and the processor multiplies it quickly."""
    return bool(_loaded().sparsearch_bitmask_spreads(weight.address))


def in_tiles(weight: Handle) -> bool:
    """Whether `product` of a bit mask's weight takes many tokens at once, in tiles."""
    return bool(_loaded().sparsearch_bitmask_in_tiles(weight.address))


def inputs(weight: Handle, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """x `[..., columns]`, contiguous, as a product in `dtype` reads it; the library's own are in float32.

    Raises:
        ValueError: it does not fit the weight.
    """
    if x.shape[-1] != weight.weight.columns:
        raise ValueError(f"x has shape {list(x.shape)}; the weight takes [..., {weight.weight.columns}]")
    # A conversion that has nothing to do takes a tenth of a small product.
    return (x if x.dtype == dtype else x.to(dtype)).contiguous()


def _loaded() -> ctypes.CDLL:
    """The library, which `unavailable` has not said to be missing."""
    found = library()
    assert found is not None
    return found


def _declare(found: ctypes.CDLL) -> ctypes.CDLL:
    pointer = ctypes.c_void_p
    found.sparsearch_bitmask_in_tiles.argtypes = found.sparsearch_bitmask_spreads.argtypes = (pointer,)
    for name in ("sparsearch_bitmask", "sparsearch_csr16"):
        getattr(found, name).argtypes = (pointer, pointer, ctypes.c_int64, pointer, ctypes.c_int)
    for rows in (found.sparsearch_bitmask_rows, found.sparsearch_bitmask_bfloat16_rows):
        rows.argtypes, rows.restype = (pointer, ctypes.c_int64, ctypes.c_int64, pointer, ctypes.c_int), None
    return found
