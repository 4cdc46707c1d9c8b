"""Moments of what reaches each site during forwards of the dense model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparsearch.evaluation.statistics.base import Measurement
from sparsearch.model.sites import sharing_modules


@dataclass(eq=False)
class Moments:
    """Sums over the rows that reached one site: tokens, or what a router sent to an expert.

    Attributes:
        sums: of each input feature, float64 `[in]`; `squares` of its square.
        rows: how many there were.
    """

    sums: Tensor
    squares: Tensor
    rows: int = 0

    @property
    def root_mean_square(self) -> Tensor:
        """Of each input feature, float64 `[in]`; 0 where nothing ever came."""
        return (self.squares / max(self.rows, 1)).sqrt()

    @property
    def variance(self) -> Tensor:
        """Of each input feature over the rows, float64 `[in]`."""
        mean = self.sums / max(self.rows, 1)
        return (self.squares / max(self.rows, 1) - mean.square()).clamp(min=0.0)


def input_moments(measurement: Measurement) -> list[Moments]:
    """Of every site, from one forward of each sequence."""
    device = measurement.evaluator.model.device
    empty = (torch.zeros(site.shape[-1], dtype=torch.float64, device=device) for site in measurement.space.sites)
    moments = [Moments(zeros, zeros.clone()) for zeros in empty]
    with _watched(measurement, moments):
        for _, batch in measurement.batches():
            measurement.evaluator.runner.run(batch)
    return moments


@contextmanager
def _watched(measurement: Measurement, moments: list[Moments]) -> Iterator[None]:
    module = measurement.evaluator.model.module
    handles = [
        part.register_forward_hook(_adder(own), with_kwargs=True)
        for own, site in zip(moments, measurement.space.sites, strict=True)
        for part in sharing_modules(module, site)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _adder(moments: Moments) -> Any:
    def add(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _output: Any) -> None:
        inputs = args[0] if args else next(iter(kwargs.values()))
        rows = inputs.reshape(-1, inputs.shape[-1]).double()
        moments.sums += rows.sum(dim=0).to(moments.sums.device)
        moments.squares += rows.square().sum(dim=0).to(moments.sums.device)
        moments.rows += len(rows)

    return add
