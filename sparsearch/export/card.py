"""The model card that an export carries as `README.md`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import yaml

from sparsearch.space import Profile

NATURE = {
    "dense": """\
**Pruned weights are stored as zeros: by itself this checkpoint is neither smaller nor faster than the
original.** A runtime with sparse kernels, or a format that leaves the zeros out, is what turns them into
bytes or time.""",
    "runtime": """\
**Weights are packed for the sparse kernels of sparsearch on a CPU: pruned ones take no memory but a bit.**
Only sparsearch opens this folder; `sparsearch export --layout dense` writes a checkpoint for other tools.""",
}
"""By layout: what the weights are."""

LOADING = {
    "dense": """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("PATH_OR_NAME_OF_THIS_FOLDER")
tokenizer = AutoTokenizer.from_pretrained("PATH_OR_NAME_OF_THIS_FOLDER")
```

It is an ordinary transformers checkpoint: whatever loads the original loads it, with the same options.""",
    "runtime": """\
```python
import sparsearch.runtime
from transformers import AutoTokenizer

model = sparsearch.runtime.load("PATH_OF_THIS_FOLDER")  # a transformers model: forward, generate
tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")
```

For inference on a CPU.""",
}
"""By layout: how a model is made of the folder."""

LIBRARIES = {"dense": "transformers", "runtime": "sparsearch"}

TAGS = ["pruned", "sparse", "sparsearch"]

CARD = """\
---
{metadata}---

# {title}

[{base_model}]({base_link}) pruned to {sparsity:.2%} sparsity over its {sites} prunable layers
(budget: {budget}).
How much each layer lost was searched by [sparsearch](sparsearch/profile.json), not set to one value for all.

{nature}

## Figures

{figures}

## What was removed

{kinds}

The level of every layer stands in `sparsearch/profile.json`.

## Loading

{loading}
The licence and the limits of the original model apply to it as well.

## How it was made

{fence}yaml
{config_yaml}
{fence}
"""


def model_card(
    profile: Profile,
    *,
    base_model: str,
    figures: tuple[Sequence[str], Sequence[Sequence[str]]],
    config_yaml: str,
    layout: str = "dense",
) -> str:
    """Markdown with the metadata block that the Hugging Face hub reads.

    Args:
        profile: what was exported.
        base_model: hub name or path of the original; of a path only the last part is shown.
        figures: heading and rows of the comparison table, as text.
        config_yaml: the job's YAML.
        layout: dense or runtime, which load differently.
    """
    name = base_model if _is_hub_name(base_model) else Path(base_model).name
    metadata = {"base_model": name, "tags": TAGS, "library_name": LIBRARIES[layout]}
    budget = ", ".join(f"{resource} {bound}" for resource, bound in sorted(profile.budget.items()))
    return CARD.format(
        metadata=yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True),
        title=_inline(f"{name.rpartition('/')[2]}, {profile.sparsity:.0%} pruned"),
        base_model=_inline(name),
        base_link=f"https://huggingface.co/{name}" if _is_hub_name(base_model) else "#how-it-was-made",
        sparsity=profile.sparsity,
        sites=len(profile.sites),
        budget=_inline(budget or "none"),
        nature=NATURE[layout],
        loading=LOADING[layout],
        figures=_markdown_table(*figures),
        kinds=_kinds(profile),
        fence=_fence(config_yaml),
        config_yaml=config_yaml.rstrip("\n"),
    )


def _is_hub_name(name: str) -> bool:
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name)) and not Path(name).exists()


def _kinds(profile: Profile) -> str:
    """Mean, least and most sparsity of the layers of each kind."""
    sparsities = defaultdict(list)
    for site in profile.sites:
        sparsities[site["kind"]].append(site["sparsity"])
    rows = [
        (kind, str(len(values)), *(f"{value:.1%}" for value in (mean(values), min(values), max(values))))
        for kind, values in sparsities.items()
    ]
    return _markdown_table(("layer", "count", "mean sparsity", "least", "most"), rows)


def _markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(map(_inline, line))} |" for line in lines)


def _inline(text: str) -> str:
    """Text that stays on its line and in its table cell, with no markup of its own."""
    return re.sub(r"([\\|`*<>\[\]])", r"\\\1", " ".join(text.split()))


def _fence(text: str) -> str:
    """A code fence longer than any run of backticks in `text`."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)
