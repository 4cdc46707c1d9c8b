"""What every kernel backend takes and gives: a pruned weight in, its packed form and products with it out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """A weight as one backend stores it.

    Attributes:
        shape: `(out, in)` of the weight.
        tensors: everything that is stored, by name; plain contiguous tensors that safetensors can write.
        handle: what the backend makes of `tensors` when it opens them, a library's own object; never stored.
    """

    shape: tuple[int, int]
    tensors: Mapping[str, Tensor]
    handle: object = None

    @property
    def bytes(self) -> int:
        """Size as stored."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


class Backend(ABC):
    """One way to multiply by a weight with zeros. Stateless: what a weight needs is in its `Packed`.

    Attributes:
        name: in files, tables and messages.
        device: "cpu" or "cuda".
        tolerance: largest error of a product, relative to `|x| @ |W|.T`, against float64; values that are
            stored in fewer bits than the weight's have a larger one.
        skips_zeros: pruned positions may be left out of the sum, so that an infinite or NaN input is sure to reach
            only the outputs that have a weight for it. Where False the result is NaN and infinite where that of a
            dense product is (0 times infinity is NaN), and non-finite weights surface as they do there.
        any_shape: `matmul` takes x `[..., in]` with any dimensions before the last, and gives `[..., out]`.
    """

    name: ClassVar[str]
    device: ClassVar[str] = "cpu"
    tolerance: ClassVar[float] = 1e-5
    skips_zeros: ClassVar[bool] = False
    any_shape: ClassVar[bool] = False

    @abstractmethod
    def unavailable(self) -> str | None:
        """Why this machine cannot run it, in words for `sparsearch doctor`; None where it can."""

    def refuses(self, shape: tuple[int, int], dtype: torch.dtype, label: str) -> str | None:
        """Why it cannot serve weights of `shape` `(out, in)` and `dtype` at the level `label`; None where it can."""
        return None

    def serves(self, tokens: int) -> bool:
        """Whether `matmul` takes so many tokens at once."""
        return tokens >= 1

    @abstractmethod
    def pack(self, weight: Tensor) -> Packed:
        """The weight `[out, in]`, zeros included, in the backend's own form; `weight` is not kept."""

    @abstractmethod
    def open(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Packed:
        """What `pack` gave, from its stored `tensors`, without copying them where the backend allows it."""

    @abstractmethod
    def matmul(self, x: Tensor, packed: Packed) -> Tensor:
        """`x @ W.T`: x `[tokens, in]` of the weight's dtype, result `[tokens, out]`."""


class StoredBackend(Backend):
    """A backend whose packed weights may lie in a file: `open` checks them, and they unpack where it is unavailable."""

    @abstractmethod
    def unpack(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> Tensor:
        """The weight `[out, in]` of what `pack` stored, in the dtype of its values; torch alone is needed."""

    @abstractmethod
    def check(self, shape: tuple[int, int], tensors: Mapping[str, Tensor]) -> None:
        """Refuses tensors from somebody else's file that are not those of a weight `shape`.

        Kernels trust what they are given, so nothing may pass that names memory outside of the tensors.

        Raises:
            ResourceError: what does not fit.
        """
