"""The exported model on the measured kernels: packed linears that `generate()` runs on."""

from sparsearch.runtime.linear import PackedLinear
from sparsearch.runtime.load import load

__all__ = ["PackedLinear", "load"]
