"""Input statistics of the sites of one block, taken while the model itself runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sparsearch.errors import ResourceError
from sparsearch.model.prunable import PrunableModel
from sparsearch.model.site import Site
from sparsearch.pruning import Statistics


class StatisticsCollector:
    """Sums up the inputs of `sites` during forwards, once per distinct input.

    Sites that are handed the same tensor (q, k and v; gate and up) share one `Statistics`. Whether they are
    is seen from the tensors themselves in the first forward that reaches them, not from names.

    Args:
        gram: whether the full second moment is wanted or the squared sums alone.
    """

    def __init__(self, model: PrunableModel, sites: Sequence[Site], gram: bool) -> None:
        self._model = model
        self._sites = sites
        self._gram = gram
        self._leader: dict[str, str] = {}
        self._sums: dict[str, Statistics] = {}
        self._seen: list[tuple[str, Tensor, bool]] = []

    def of(self, site: Site) -> Statistics:
        """The statistics of the input of `site`; empty if no token ever reached it."""
        leader = self._leader.get(site.name)
        if leader is None:
            return Statistics.empty(site.shape[-1], self._gram, self._model.device)
        return self._sums[leader]

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Collects during one forward pass of one batch."""
        handles = [self._hooked(site) for site in self._sites]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._seen.clear()

    def _hooked(self, site: Site) -> Any:
        def collect(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._collect(site, args[0] if args else next(iter(kwargs.values())))

        module = self._model.module.get_submodule(site.module)
        return module.register_forward_pre_hook(collect, with_kwargs=True)

    def _collect(self, site: Site, inputs: Tensor) -> None:
        new = site.name not in self._leader
        if new:
            # Only a leader that is new in this very pass has seen the same batches as this site.
            shared = (name for name, seen, leads_now in self._seen if leads_now and seen is inputs)
            self._leader[site.name] = next(shared, site.name)
        if self._leader[site.name] != site.name:
            return
        # Holding the tensor keeps its identity from being recycled within the pass.
        self._seen.append((site.name, inputs, new))
        sums = self._sums.get(site.name) or Statistics.empty(inputs.shape[-1], self._gram, inputs.device)
        self._sums[site.name] = sums.accumulate(inputs)
        if not self._sums[site.name].square_sum.isfinite().all():
            raise ResourceError(
                f"the input of {site.name} holds NaN or Inf on the calibration panel; "
                "try model.dtype: float32, or look at the checkpoint"
            )
