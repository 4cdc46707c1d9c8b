"""Counting what tensor operations keep in memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """A context that knows how many bytes of tensors are alive, whoever holds them: autograd, hooks or variables.

    Each storage counts once, from the operation that makes it to its release. Works on any device; costs some
    microseconds an operation.

    Attributes:
        now: bytes alive of what was made inside the context.
        peak: the most that `now` has been.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        """Leaves out the storages of `known`: operations return views of what was there before."""
        super().__init__()
        self.now = self.peak = 0
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs one operation and counts the storages that it has made."""
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return output

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._seen:
            return
        self._seen.add(address)
        self.now += size
        self.peak = max(self.peak, self.now)
        # PyTorch keeps a storage's Python object until the storage itself is released.
        weakref.finalize(storage, self._release, address, size)

    def _release(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.now -= size
