"""Tables of measured times that nobody has measured: every number follows from a formula."""

import dataclasses

from sparsearch.hardware.cells import Cell
from sparsearch.hardware.cost_model import site_shape
from sparsearch.hardware.fingerprint import machine_fingerprint
from sparsearch.hardware.model_runs import ModelRuns, Run, architecture
from sparsearch.hardware.table import Table
from sparsearch.model.sites import find_sites
from sparsearch.space.level import parse_level

LABELS = ("dense", "0.5", "0.75", "0.95")
TOKENS = (1, 16)
SCALE, OUTSIDE = 0.8, 5e-6
"""What the made-up whole models take: the products of all linears times a scalar, and this for the rest."""


def product_seconds(shape, tokens, density):
    """Of the sparse kernel; dense takes as long as density 0.6."""
    return 1e-9 * tokens * shape[0] * shape[1] * (0.2 + density)


def density_of(shape, label):
    """What a level leaves of a weight, which is rounded."""
    return 1 - parse_level(label).removed(shape) / (shape[0] * shape[1])


def table_of(shapes, fingerprint=None):
    """Cells of dense and one exact sparse kernel, and of one that rounds and would be the fastest."""
    cells = []
    for shape in sorted(shapes):
        for tokens in TOKENS:
            for label in LABELS:
                density, size = density_of(shape, label), shape[0] * shape[1]
                sparse, dense = (product_seconds(shape, tokens, each) for each in (density, 0.6))
                cells += [
                    Cell("dense", shape, tokens, density, dense, label=label, bytes=4 * size),
                    Cell("bitmask_fp32", shape, tokens, density, sparse, label=label, bytes=int(4 * size * density)),
                    Cell("bitmask_int8", shape, tokens, density, sparse / 9, label=label, bytes=int(size * density)),
                ]
    return Table(fingerprint or machine_fingerprint("cpu", 1, "float32"), 5, tuple(cells))


def best_seconds(shape, tokens, density):
    """What the table says, worked out anew."""
    return min(product_seconds(shape, tokens, density), product_seconds(shape, tokens, 0.6))


def table_for(model, errors=(0.0, 0.0, 0.0), fingerprint=None):
    """The table of a model, whole runs included, which are off by `errors` at the three sparse levels."""
    shapes = {site.name: site_shape(site) for site in find_sites(model)}
    table = table_of(set(shapes.values()), fingerprint)
    runs = []
    for tokens in TOKENS:
        for label, off in zip(LABELS, (0.0, *errors), strict=True):
            linears = sum(best_seconds(shape, tokens, density_of(shape, label)) for shape in shapes.values())
            runs.append(Run(tokens, label, (OUTSIDE + SCALE * linears) * (1 + off), 0.0))
    storage = model.storage_name
    return dataclasses.replace(
        table, models=(ModelRuns(architecture(model), model.name, storage, shapes, tuple(runs)),)
    )
