"""The embedded reference model: a small trained causal LM, so that everything runs offline."""

from __future__ import annotations

from pathlib import Path


def reference_path() -> Path:
    """The folder of the reference checkpoint, which `from_pretrained` loads (model and tokenizer)."""
    return Path(__file__).parent / "lm"


def reference_job() -> Path:
    """The commented job file of the embedded example; `sparsearch init` writes a copy of it."""
    return Path(__file__).parent / "job.yaml"
