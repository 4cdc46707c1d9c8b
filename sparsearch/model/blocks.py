"""Finding the transformer blocks of a model by its structure."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers.pytorch_utils import Conv1D

from sparsearch.errors import ConfigError

LINEAR_TYPES = (nn.Linear, Conv1D)


def find_blocks(module: nn.Module) -> tuple[tuple[str, ...], tuple[nn.Module, ...]]:
    """Paths and modules of the transformer blocks, in order.

    The blocks are the elements of the `nn.ModuleList` with the most matrix weights among those that lie in no
    other list (experts and branches are lists inside blocks) and whose every element holds linear layers of
    its own. No architecture is known by name.

    Raises:
        ConfigError: the model has no such list.
    """
    candidates = [(path, blocks) for path, blocks in _outermost_lists(module) if all(map(_is_block, blocks))]
    if not candidates:
        raise ConfigError(
            f"model: {type(module).__name__} has no list of transformer blocks (an nn.ModuleList of "
            "modules that hold linear layers); only models built from such a list can be pruned"
        )
    path, blocks = max(candidates, key=lambda candidate: _matrix_weights(candidate[1]))
    prefix = f"{path}." if path else ""
    return tuple(f"{prefix}{index}" for index in range(len(blocks))), tuple(blocks)


def _outermost_lists(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.ModuleList]]:
    if isinstance(module, nn.ModuleList):
        if len(module):
            yield path, module
        return
    for name, child in module.named_children():
        yield from _outermost_lists(child, f"{path}.{name}" if path else name)


def _is_block(module: nn.Module) -> bool:
    is_linear = isinstance(module, LINEAR_TYPES)
    return not is_linear and any(isinstance(part, LINEAR_TYPES) for part in module.modules())


def _matrix_weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.dim() > 1)
