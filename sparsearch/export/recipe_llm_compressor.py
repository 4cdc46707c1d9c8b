"""The llm-compressor recipe of a profile: the same sparsity for every layer, pruned by that library's own code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import yaml

from sparsearch.errors import ConfigError
from sparsearch.space import Profile

SPARSEGPT = "SparseGPTModifier"
MODIFIERS = {"sparsegpt": SPARSEGPT, "wanda": "WandaPruningModifier"}
"""Our pruners to the modifiers that do the same."""

UNSTRUCTURED = "0:0"
EVERYTHING = "1:1"  # one of every one weight goes: a sparsity of 1 would make SparseGPT read behind its scores


def llm_compressor_recipe(profile: Profile, modules: Sequence[str], modifier: str = SPARSEGPT) -> str:
    """YAML that llm-compressor (0.14 was tried) applies layer by layer, to the model that the profile is of.

    What that library does with a recipe dictates its form (shown by running it):

    - It pairs `sparsity` with the matched modules in the order of `named_modules()`, whatever the order of
      `targets`; so both lists are in that order.
    - It checks the length of the list before it applies `ignore`; so targets are exact names, and nothing is
      ignored.
    - Of two `*_stage` blocks it runs none; so all is one stage. A modifier stands once in a `*_modifiers` group;
      so levels that need different mask structures have a group each, which costs a calibration pass each.
    - Its N:M counts the weights that go, ours those that stay: our 1:4 is its 3:4.
    - It prunes some weights at sparsity 0 as well; so dense layers are no targets.

    Args:
        profile: of linear sites.
        modules: names of all modules as the model's `named_modules()` yields them.
        modifier: one of the values of `MODIFIERS`.

    Raises:
        ConfigError: the model lacks a site of the profile, or nothing is to be pruned.
    """
    place = {name: index for index, name in enumerate(modules)}
    if absent := [site["name"] for site in profile.sites if site["name"] not in place]:
        raise ConfigError(f"profile: the model has no module {absent[0]}; give a profile of this model")
    groups: dict[str, list[dict[str, Any]]] = {}
    for site in sorted(profile.sites, key=lambda site: place[site["name"]]):
        if site["sparsity"] > 0:
            groups.setdefault(_structure(site), []).append(site)
    if not groups:
        raise ConfigError("profile: every layer is dense; llm-compressor has nothing to do")
    stage = {_group_name(structure): {modifier: _arguments(structure, groups[structure])} for structure in groups}
    return yaml.safe_dump({"sparsity_stage": stage}, sort_keys=False, allow_unicode=True)


def _structure(site: dict[str, Any]) -> str:
    """The mask structure as llm-compressor writes it."""
    if site["sparsity"] == 1:
        return EVERYTHING
    if match := re.fullmatch(r"(\d+):(\d+)", site["level"]):
        return f"{int(match[2]) - int(match[1])}:{match[2]}"
    return UNSTRUCTURED


def _group_name(structure: str) -> str:
    names = {UNSTRUCTURED: "unstructured", EVERYTHING: "everything"}
    return f"{names.get(structure, structure.replace(':', '_of_'))}_modifiers"


def _arguments(structure: str, sites: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "sparsity": [float(site["sparsity"]) for site in sites],
        "mask_structure": structure,
        "targets": [site["name"] for site in sites],
    }
