"""Putting an allocation into the live model, and taking it out again."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from sparsearch.model.prunable import PrunableModel
from sparsearch.model.sites import site_weight
from sparsearch.space.allocation import Allocation
from sparsearch.supernet.store import Supernet
from sparsearch.supernet.threads import one_thread

SMALL = 2**20
"""Weights below which copying takes a fraction of a millisecond on one thread."""


class Switcher:
    """Rewrites the weights of a model in place; only sites whose level changes are touched.

    Keeps the dense weights of the sites that it has ever changed, on the CPU, so that level 0 is bit-exact.
    """

    def __init__(self, model: PrunableModel, supernet: Supernet) -> None:
        self.model = model
        self.supernet = supernet
        self.current = supernet.space.dense()
        self._dense: dict[int, Tensor] = {}

    @torch.no_grad()
    def switch(self, allocation: Allocation) -> int:
        """Makes the model the one that `allocation` describes. Returns how many sites were rewritten."""
        changed = 0
        for site, (old, new) in enumerate(zip(self.current.levels, allocation.levels, strict=True)):
            if old != new:
                self._write(site, new)
                changed += 1
        self.current = allocation
        return changed

    def restore(self) -> int:
        """Makes the model dense again, bit for bit."""
        return self.switch(self.supernet.space.dense())

    def exchange(self, supernet: Supernet) -> None:
        """Makes the model dense and takes the variants from another supernet of the same search space from now on."""
        self.restore()
        self.supernet = supernet

    def variant(self, site: int, level: int) -> Tensor:
        """The weight `[out, in]` of a site at a level, on the CPU. Do not write into it."""
        dense = self.dense(site)
        if level == 0:
            return dense
        return self.supernet.variant(site, level, dense)

    def dense(self, site: int) -> Tensor:
        """The dense weight `[out, in]` of a site, whatever is in the model now."""
        if site in self._dense:
            return self._dense[site]
        return self._view(site).cpu()

    def weight(self, site: int) -> Tensor:
        """The weight `[out, in]` of a site as it is in the model now, a view."""
        return self._view(site)

    def _write(self, site: int, level: int) -> None:
        view = self._view(site)
        if site not in self._dense:
            self._dense[site] = view.to("cpu", copy=True).contiguous()
        new = self.variant(site, level)
        # Two threads that copy wait for each other: on a busy machine a time slice of the scheduler, whatever the size.
        with one_thread() if view.numel() < SMALL else nullcontext():
            view.copy_(new)

    def _view(self, site: int) -> Tensor:
        return site_weight(self.model.module, self.supernet.space.sites[site])


def switch(model: PrunableModel, supernet: Supernet, allocation: Allocation) -> Switcher:
    """Puts `allocation` into a dense `model` once; the switcher that is returned can restore it."""
    switcher = Switcher(model, supernet)
    switcher.switch(allocation)
    return switcher
