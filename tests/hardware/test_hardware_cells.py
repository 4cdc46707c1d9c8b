"""Times between measured cells."""

import pytest

from sparsearch.errors import ConfigError
from sparsearch.hardware.cells import Cell, best_seconds

SHAPE = (8, 16)
CELLS = [
    Cell("dense", SHAPE, 1, 1.0, 3.0),
    Cell("csr", SHAPE, 1, 0.5, 4.0),
    Cell("csr", SHAPE, 1, 0.1, 1.0),
    Cell("csr", (8, 32), 1, 0.2, 0.1),
]


def test_nodes_are_exact_and_between_them_time_is_linear_in_density():
    assert best_seconds(CELLS, SHAPE, 1, 0.1) == (1.0, "csr")
    assert best_seconds(CELLS, SHAPE, 1, 0.3) == (pytest.approx(2.5), "csr")


def test_never_costs_more_than_dense():
    assert best_seconds(CELLS, SHAPE, 1, 0.5) == (3.0, "dense")
    assert best_seconds(CELLS, SHAPE, 1, 0.05) == (3.0, "dense")


@pytest.mark.parametrize(("shape", "tokens", "density"), [((16, 8), 1, 0.3), (SHAPE, 4, 0.3), ((8, 32), 1, 0.3)])
def test_what_was_not_measured_is_refused(shape, tokens, density):
    with pytest.raises(ConfigError, match="was not measured"):
        best_seconds(CELLS, shape, tokens, density)
