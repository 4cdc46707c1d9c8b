"""Running a model from any block to any block, through the model's own forward.

Modules that are not wanted are replaced for one call by a stand-in that returns what is known; embeddings,
masks, rotary tables and per-layer arguments come from the model itself, so nothing captured is ever replayed
(stale caches, masks of layer 0 in a sliding-window layer: the traps of capture-and-replay code).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from sparsearch.errors import ConfigError
from sparsearch.model.prunable import PrunableModel

Batch = dict[str, Tensor]
State = Any
"""What a block or a part of it returns: a tensor such as `[batch, tokens, width]`, or a tuple that begins with one."""


@dataclass
class Run:
    """What a (partial) forward gave.

    Attributes:
        hidden: last hidden states `[batch, tokens, width]`, None when the run stopped before the end.
        states: block index to that block's output, for the blocks that were captured.
    """

    hidden: Tensor | None
    states: dict[int, State] = field(default_factory=dict)


class _StopForward(Exception):
    """Ends a forward behind the last block that is wanted."""


class Blockwise:
    """Partial forwards of one model. Not thread-safe: it patches the model's modules during a call."""

    def __init__(self, model: PrunableModel) -> None:
        self.model = model
        self.backbone: nn.Module = getattr(model.module, "base_model", model.module)
        accepted = inspect.signature(self.backbone.forward).parameters
        self._extra = {"use_cache": False} if "use_cache" in accepted else {}
        # Most heads call the backbone, some (OPT) the part of it that owns the blocks.
        owner = model.module.get_submodule(model.block_paths[0].rpartition(".")[0].rpartition(".")[0])
        self._before_head = [self.backbone] if owner in (self.backbone, model.module) else [self.backbone, owner]
        self._output_type: type | None = None

    def run(
        self,
        batch: Batch,
        *,
        start: int = 0,
        state: State = None,
        stop: int | None = None,
        capture: Iterable[int] = (),
        known: Mapping[nn.Module, State] | None = None,
        watch: Mapping[nn.Module, Callable[[State], None]] | None = None,
    ) -> Run:
        """Runs blocks `start` to `stop` (exclusive; None: to the end, with what follows the blocks).

        Args:
            batch: keyword arguments of the model's forward, on its device.
            state: output of block `start - 1` on this batch; not used when `start` is 0.
            capture: blocks whose outputs are wanted.
            known: further modules that are not run, with what they answer; outputs of theirs on this batch.
            watch: modules with what is told each of their outputs, unchanged and at once.
        """
        blocks = self.model.blocks
        result = Run(None)
        last = len(blocks) if stop is None else stop
        stand_ins = {**dict.fromkeys(blocks[:start], state), **(known or {})}
        with ExitStack() as patches:
            for module, answer in stand_ins.items():
                patches.enter_context(replaced_forward(module, _answering(answer)))
            for module, tell in (watch or {}).items():
                patches.enter_context(watched_forward(module, tell))
            for index in sorted({*capture, *([last - 1] if stop is not None else [])}):
                record = self._recorder(result, index, ends=stop is not None and index == last - 1)
                patches.enter_context(watched_forward(blocks[index], record))
            try:
                output = self.backbone(**batch, **self._extra)
            except _StopForward:
                return result
        self._output_type = type(output)
        result.hidden = output if isinstance(output, Tensor) else output[0]
        return result

    def head(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Logits of last hidden states `[batch, tokens, width]`, by the model's own code behind the backbone.

        Soft caps, scales and projections that a family puts behind its head are therefore included.

        Args:
            batch: the inputs, of which the head uses at most the shapes.

        Raises:
            ConfigError: the model has no head.
        """
        if self.backbone is self.model.module:
            raise ConfigError("objective: this model has no language-modelling head; use objective hidden")
        if self._output_type is None:
            self.run({name: value[:1] for name, value in batch.items()})
        output_type = self._output_type
        answer = hidden if output_type is Tensor else (hidden,) if output_type is tuple else None
        if answer is None:
            assert output_type is not None
            answer = output_type(last_hidden_state=hidden)
        with ExitStack() as patches:
            for module in self._before_head:
                patches.enter_context(replaced_forward(module, _answering(answer)))
            return self.model.module(**batch, **self._extra).logits

    def _recorder(self, result: Run, index: int, *, ends: bool) -> Callable[[State], None]:
        def record(output: State) -> None:
            result.states[index] = output
            if ends:
                raise _StopForward

        return record


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Lets `module` answer with `forward` inside the context; a forward patched in before (accelerate) comes back."""
    patched = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if patched is not None:
            module.__dict__["forward"] = patched


@contextmanager
def watched_forward(module: nn.Module, tell: Callable[[State], None]) -> Iterator[None]:
    """Tells each output of `module` inside the context.

    A hook would hear of it too, but some modules (torch's own encoder layer) compute another way under hooks.
    """
    original = module.forward

    @wraps(original)
    def forward(*args: Any, **kwargs: Any) -> State:
        output = original(*args, **kwargs)
        tell(output)
        return output

    with replaced_forward(module, forward):
        yield


def _answering(answer: Any) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: answer


def versions(value: Any) -> list[int]:
    """How often each tensor in `value` (nested tuples, lists, dicts) has been written to in place."""
    if isinstance(value, Tensor):
        return [value._version]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [version for part in parts for version in versions(part)]


def move_state(state: State, device: torch.device) -> State:
    """`state` with its tensors on `device`."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, tuple):
        return tuple(move_state(part, device) for part in state)
    return state


def state_bytes(state: State) -> int:
    """Memory that the tensors in `state` hold; a view holds all of what it is a view of."""
    if isinstance(state, Tensor):
        return state.untyped_storage().nbytes()
    return sum(map(state_bytes, state)) if isinstance(state, tuple) else 0
