"""What an allocation's model says on one batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparsearch.model.blockwise import Batch, Blockwise


@dataclass
class StudentOutputs:
    """Outputs of the model as it stands; logits are computed a slice of positions at a time."""

    runner: Blockwise
    hidden: Tensor
    batch: Batch

    def logits(self, rows: slice) -> Tensor:
        """Logits `[batch, rows, vocabulary]`."""
        return self.runner.head(self.hidden[:, rows], self.batch)
