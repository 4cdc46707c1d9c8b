"""What every pruner takes and gives: patterns, input statistics, masks with or without new weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Needs = Literal["none", "norms", "gram"]


@dataclass(frozen=True)
class Unstructured:
    """Remove `removed` weights of the site in all.

    A pruner that ranks each row for itself removes as many from every row, up to one.
    """

    removed: int

    def __post_init__(self) -> None:
        if self.removed < 0:
            raise ValueError(f"unstructured: cannot remove {self.removed} weights; give 0 or more")


@dataclass(frozen=True)
class NM:
    """Of every `group` consecutive inputs of a row, `keep` stay: 2:4 is `NM(keep=2, group=4)`."""

    keep: int
    group: int

    def __post_init__(self) -> None:
        if not 1 <= self.keep <= self.group:
            raise ValueError(f"N:M pattern {self.keep}:{self.group} is not possible; it needs 1 <= N <= M")


Pattern = Unstructured | NM


@dataclass(frozen=True)
class Statistics:
    """Sums over the calibration tokens of one distinct input x `[in]`, shared by all sites that read it.

    Attributes:
        square_sum: sum of x_j^2, `[in]`, float32 or better.
        tokens: how many tokens were summed; 0 for an input that was never used (an expert never routed to).
        gram: sum of x x^T, `[in, in]`, float32 or better, or None where no pruner asks for it.
    """

    square_sum: Tensor
    tokens: int
    gram: Tensor | None

    @classmethod
    def empty(
        cls,
        width: int,
        gram: bool,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Statistics:
        """Statistics of no tokens for an input of `width` values."""
        return cls(
            square_sum=torch.zeros(width, device=device, dtype=dtype),
            tokens=0,
            gram=torch.zeros(width, width, device=device, dtype=dtype) if gram else None,
        )

    @torch.no_grad()
    def accumulate(self, x: Tensor) -> Statistics:
        """These statistics and the tokens of `x` `[..., in]`, any float dtype and device.

        The sums are updated in place, so go on with what is returned and drop `self`. Costs
        tokens * in^2 multiply-adds with a gram, one pass over `x` without.
        """
        tokens = x.reshape(-1, x.shape[-1]).to(self.square_sum)
        if self.gram is None:
            self.square_sum.add_(tokens.square().sum(dim=0))
        else:
            self.gram.addmm_(tokens.T, tokens)
            self.square_sum.copy_(self.gram.diagonal())
        return Statistics(self.square_sum, self.tokens + len(tokens), self.gram)


@dataclass(frozen=True)
class Pruned:
    """The variants of one site, one per pattern asked for (L of them).

    Attributes:
        masks: bool `[L, out, in]`, True where a weight stays.
        weights: `[L, out, in]` in the dtype of the dense weight, +0.0 where removed; None where the
            dense weights stay as they are under the mask.
    """

    masks: Tensor
    weights: Tensor | None


class Pruner(Protocol):
    """Turns one dense weight into its variants; a frozen dataclass whose fields are its options."""

    @property
    def name(self) -> str:
        """The name that `make_pruner` knows it by."""

    @property
    def statistics(self) -> Needs:
        """What it reads of the input: nothing, `square_sum`, or `gram` as well."""

    @property
    def updates_weights(self) -> bool:
        """Whether kept weights change, so that each variant has weights of its own."""

    @property
    def nested(self) -> bool:
        """Whether a weight removed by an unstructured pattern is removed by every larger one, too."""

    def prune(
        self,
        weight: Tensor,
        statistics: Statistics | None,
        patterns: Sequence[Pattern],
        generator: torch.Generator,
    ) -> Pruned:
        """The variants of `weight` `[out, in]` for all `patterns` at once.

        An input without a single non-zero token says nothing: then inputs count as equally large and
        uncorrelated. Nothing given is changed.

        Raises:
            ValueError: one line on what does not fit: weight, statistics or pattern.
        """


def require_prunable(
    pruner: Pruner, weight: Tensor, statistics: Statistics | None, patterns: Sequence[Pattern]
) -> None:
    """Raise ValueError where the arguments of `Pruner.prune` do not fit together or hold NaN or infinity."""
    if weight.dim() != 2:
        raise ValueError(f"{pruner.name}: the weight has shape {list(weight.shape)}; it must be [out, in]")
    if not weight.isfinite().all():
        raise ValueError(f"{pruner.name}: the weight holds NaN or infinity; it cannot be pruned")
    for pattern in patterns:
        _require_fits(pruner, pattern, weight)
    if pruner.statistics != "none":
        _require_statistics(pruner, statistics, weight.shape[1])


def _require_fits(pruner: Pruner, pattern: Pattern, weight: Tensor) -> None:
    out, width = weight.shape
    if isinstance(pattern, NM):
        if width % pattern.group:
            raise ValueError(
                f"{pruner.name}: {pattern.keep}:{pattern.group} needs an input width divisible by "
                f"{pattern.group}, and this weight [{out}, {width}] has {width}"
            )
    elif pattern.removed > weight.numel():
        raise ValueError(
            f"{pruner.name}: cannot remove {pattern.removed} weights; [{out}, {width}] has {weight.numel()}"
        )


def _require_statistics(pruner: Pruner, statistics: Statistics | None, width: int) -> None:
    if statistics is None:
        raise ValueError(f"{pruner.name} needs the statistics of the site's input; none were given")
    sums = statistics.square_sum if pruner.statistics == "norms" else statistics.gram
    if sums is None:
        raise ValueError(f"{pruner.name} needs the gram of the site's input; only square sums were given")
    if sums.shape != (width,) * sums.dim():
        raise ValueError(
            f"{pruner.name}: the statistics have shape {list(sums.shape)}, and the weight has {width} inputs"
        )
    if not sums.isfinite().all():
        raise ValueError(
            f"{pruner.name}: the input statistics hold NaN or infinity; look at the activations of this site"
        )
