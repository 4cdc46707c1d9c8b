"""A linear layer that holds its weight packed for a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsearch.hardware.kernels import Packed, StoredBackend


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """A weight packed for one backend.

    Attributes:
        most_tokens: what is used for up to so many tokens; None for any number.
    """

    backend: StoredBackend
    packed: Packed
    most_tokens: int | None = None


class PackedLinear(nn.Module):
    """`x @ W.T + bias` with W in one packed form, or in several for different numbers of tokens. Inference only.

    The weight is no parameter: `to` and `half` leave it where and as it is, `state_dict` has the bias alone.

    Args:
        forms: by rising `most_tokens`; the last one takes any number.
        bias: `[out]`, or None.
        dtype: of the weight before it was packed; what `weight` claims to be.
    """

    def __init__(self, forms: Sequence[Form], bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        if not forms or forms[-1].most_tokens is not None:
            raise ValueError("the last form has to take any number of tokens")
        self.forms = tuple(forms)
        self.dtype = dtype
        self.out_features, self.in_features = forms[0].packed.shape
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @property
    def weight(self) -> Tensor:
        """Shape and dtype alone (on the meta device), for code that asks a layer what it computes in."""
        return torch.empty(self.out_features, self.in_features, dtype=self.dtype, device="meta")

    @property
    def packed_bytes(self) -> int:
        """What all forms of the weight take."""
        return sum(form.packed.bytes for form in self.forms)

    def unpacked(self) -> Tensor:
        """The weight `[out, in]` as its first form stores it."""
        form = self.forms[0]
        return form.backend.unpack(form.packed.shape, form.packed.tensors)

    def form(self, tokens: int) -> Form:
        """The one that multiplies so many tokens."""
        for form in self.forms:
            if form.most_tokens is None or tokens <= form.most_tokens:
                return form
        raise AssertionError

    def forward(self, x: Tensor) -> Tensor:
        """x `[..., in]`, result `[..., out]`.

        Raises:
            RuntimeError: gradients are asked for.
        """
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError("packed linears compute no gradients; run the model under torch.no_grad()")
        tokens = x.numel() // self.in_features
        if not tokens:
            return x.new_empty(*x.shape[:-1], self.out_features)
        chosen = self.form(tokens)
        if chosen.backend.any_shape:
            product = chosen.backend.matmul(x, chosen.packed)
        else:
            flat = chosen.backend.matmul(x.reshape(-1, self.in_features), chosen.packed)
            product = flat.view(*x.shape[:-1], self.out_features)
        return product if self.bias is None else product + self.bias

    def extra_repr(self) -> str:
        """Shape and backends, for `print(model)`."""
        backends = ", ".join(form.backend.name for form in self.forms)
        return f"in_features={self.in_features}, out_features={self.out_features}, {backends}"
