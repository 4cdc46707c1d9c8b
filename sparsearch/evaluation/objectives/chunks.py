"""Working on long sequences a few positions at a time, so that logits never fill the memory."""

from __future__ import annotations

from collections.abc import Iterator

POSITIONS = 512


def position_chunks(tokens: int) -> Iterator[slice]:
    """Slices that cover `tokens` positions."""
    for start in range(0, tokens, POSITIONS):
        yield slice(start, min(start + POSITIONS, tokens))
