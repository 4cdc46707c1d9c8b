"""Jobs that take a second: a tiny Llama, three levels, a few sequences. For tests of the job and what lies above it."""

import functools
import random
import shutil

import yaml

from sparsearch.cli.main import run

# 31 tokens: a length at which the last bits of a forward depend on how many sequences run together.
PANEL = {"length": 31, "calibration": 8, "search": 12, "heldout": 8}
EVOPRESS = {"name": "evopress", "generations": 3, "offspring": 5, "survivors": [2, 1], "tokens": [31, 93]}


def write_words(path, count=6000, seed=0):
    """A text of made-up sentences, in paragraphs."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("aeioulnrstdmkp", k=draw.randint(2, 7))) for _ in range(400)]
    lines = [" ".join(draw.choices(words, k=12)) + "." for _ in range(count // 12)]
    path.write_text("".join(f"{line}\n\n" if number % 4 == 3 else f"{line}\n" for number, line in enumerate(lines)))
    return path


def mapping(folder, checkpoint, **changes):
    """A job's mapping whose files lie in `folder`; `changes` replace whole sections."""
    text = folder / "text.txt"
    if not text.exists():
        write_words(text)
    return {
        "model": str(checkpoint),
        "space": {"levels": [0.25, 0.5, 0.75], "pruner": "wanda"},
        "objective": {"objective": "kl", "panel": PANEL},
        "data": {"files": [str(text)]},
        "budget": {"sparsity": 0.5},
        "searcher": EVOPRESS,
        "run": {"dir": str(folder / "runs" / "job")},
    } | changes


def write_job(folder, checkpoint, name="job.yaml", **changes):
    """`mapping` as a file in `folder`."""
    path = folder / name
    path.write_text(yaml.safe_dump(mapping(folder, checkpoint, **changes)))
    return path


def listing(folder):
    """Every path under `folder` with the bytes of its files: equal listings, nothing was changed."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@functools.cache
def _finished(model):
    folder = model.parent / "finished"
    folder.mkdir()
    assert run(["search", str(write_job(folder, model)), "--quiet"]) == 0
    return folder


def finished_run(model, folder):
    """A copy in `folder` of a job that has run to its end, once for all tests; returns its run folder."""
    original = _finished(model)
    shutil.copytree(original, folder, dirs_exist_ok=True)
    for path in (folder / "job.yaml", folder / "runs" / "job" / "config.yaml"):
        path.write_text(path.read_text().replace(str(original), str(folder)))
    return folder / "runs" / "job"
