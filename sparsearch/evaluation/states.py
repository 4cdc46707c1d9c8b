"""What candidates leave for later ones that share a prefix with them."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparsearch.model.blockwise import State, state_bytes, versions
from sparsearch.model.segments import Segments


@dataclass(eq=False)
class StateCache:
    """Outputs of segments on one batch, by the depth behind each, of the candidate that runs or ran last.

    Attributes:
        segments: of the model.
        bound: bytes that may be kept; what does not fit is dropped, so later candidates enter at a shallower depth.
    """

    segments: Segments
    bound: int
    outputs: dict[int, State] = field(default_factory=dict)
    _versions: dict[int, list[int]] = field(default_factory=dict)

    def enter(self, start: int, wanted: set[int]) -> int:
        """The deepest depth up to `start` that can be entered at; forgets what serves neither it nor those `wanted`.

        Outputs that a module has written to in place since they were kept count as lost.
        """
        self._retain({depth for depth in self.outputs if depth <= start and not self._written(depth)})
        depth = max(filter(self._complete, self.outputs), default=0)
        self._retain({*wanted, *self.segments.needed(depth)})
        return depth

    def keep(self, depth: int, output: State) -> None:
        """Takes the output of the segment in front of `depth`, if it fits and can be of use with what is there."""
        self.outputs[depth] = output
        self._versions[depth] = versions(output)
        if not self._complete(depth) or sum(map(state_bytes, self.outputs.values())) > self.bound:
            del self.outputs[depth]

    def _complete(self, depth: int) -> bool:
        return self.outputs.keys() >= {*self.segments.needed(depth)}

    def _written(self, depth: int) -> bool:
        return versions(self.outputs[depth]) != self._versions[depth]

    def _retain(self, depths: set[int]) -> None:
        self.outputs = {depth: output for depth, output in self.outputs.items() if depth in depths}
