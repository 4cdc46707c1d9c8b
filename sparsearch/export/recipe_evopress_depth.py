"""EvoPress's depth text (`none`, `attn`, `mlp` or `attn+mlp` a block), both ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sparsearch.errors import ConfigError, did_you_mean
from sparsearch.space import Profile

WORDS: dict[str, tuple[str, ...]] = {"none": (), "attn": ("attn",), "mlp": ("mlp",), "attn+mlp": ("attn", "mlp")}
"""A line to the sub-blocks that it drops."""


def sub_block(kind: str) -> str:
    """`attn` for a kind of site that is called so or `attention`, whatever the family; else `mlp`."""
    return "attn" if any(word in kind.lower() for word in ("attn", "attention")) else "mlp"


def is_inside(name: str, kind: str) -> bool:
    """Whether a site lies in a block; one outside has its whole name for a kind."""
    return name != kind


def depth_text(profile: Profile) -> str:
    """One line a block: which of its sub-blocks the profile removes whole.

    Raises:
        ConfigError: a sub-block is neither dense nor gone, or something outside the blocks is pruned.
    """
    gone: dict[int, dict[str, bool]] = {}
    for site in profile.sites:
        if not is_inside(site["name"], site["kind"]):
            _refuse_unless(site, (0,))
            continue
        _refuse_unless(site, (0, 1))
        part, dropped = sub_block(site["kind"]), site["sparsity"] == 1
        if gone.setdefault(site["block"], {}).setdefault(part, dropped) != dropped:
            raise ConfigError(
                f"profile: of the {part} of block {site['block']} some layers are dense and some gone; depth text "
                "can only drop it whole"
            )
    words = {dropped: word for word, dropped in WORDS.items()}
    count = max(gone, default=-1) + 1
    lines = [words[tuple(part for part in ("attn", "mlp") if gone.get(block, {}).get(part))] for block in range(count)]
    return "".join(f"{line}\n" for line in lines)


def parse_depth(text: str, source: str, blocks: int) -> list[tuple[str, ...]]:
    """The sub-blocks that each of `blocks` blocks loses.

    Raises:
        ConfigError: with the line number, what was found and what is allowed.
    """
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip() not in WORDS:
            raise ConfigError(f"{source}: line {number}: found {line[:80]!r}; {did_you_mean(line.strip(), WORDS)}")
    if len(lines) != blocks:
        raise ConfigError(f"{source}: {len(lines)} lines, but the model has {blocks} blocks; give one line a block")
    return [WORDS[line.strip()] for line in lines]


def depth_sparsities(sites: Iterable[Any], dropped: Sequence[tuple[str, ...]]) -> list[float]:
    """1 for the sites (with `name`, `kind`, `block`) of the sub-blocks that are dropped, else 0."""
    return [float(is_inside(site.name, site.kind) and sub_block(site.kind) in dropped[site.block]) for site in sites]


def _refuse_unless(site: dict[str, Any], allowed: tuple[int, ...]) -> None:
    if site["sparsity"] not in allowed:
        raise ConfigError(
            f"profile: {site['name']} is {site['sparsity']:.2%} sparse; depth text can only say that the attention "
            "or the MLP of a block is gone or dense (--recipe evopress writes sparsities)"
        )
