from __future__ import annotations

import pytest

from sparsearch.pruning import PRUNER_NAMES, make_pruner
from sparsearch.pruning.refit import Refit
from sparsearch.pruning.sparsegpt import SparseGPT
from sparsearch.pruning.wanda import Wanda


def test_every_name_makes_a_pruner_of_that_name():
    assert {"random", "magnitude", "wanda", "sparsegpt", "wanda+refit"} < set(PRUNER_NAMES)
    assert [make_pruner(name, {}).name for name in PRUNER_NAMES] == list(PRUNER_NAMES)


def test_options_go_to_the_part_that_has_them():
    options = {"block_size": 32, "damping": 0.1, "ridge": 0.2, "iterations": 7, "tolerance": 0.5}
    pruner = make_pruner("sparsegpt+refit", options)
    assert pruner == Refit(SparseGPT(block_size=32, damping=0.1), ridge=0.2, iterations=7, tolerance=0.5)
    assert make_pruner("wanda", {"group": "site"}) == Wanda(group="site")


def test_what_a_pruner_needs_and_gives_follows_from_its_parts():
    traits = {
        name: (pruner.statistics, pruner.updates_weights, pruner.nested)
        for name in PRUNER_NAMES
        for pruner in [make_pruner(name, {})]
    }
    assert traits["random"] == traits["magnitude"] == ("none", False, True)
    assert traits["wanda"] == ("norms", False, True)
    assert traits["sparsegpt"] == traits["sparsegpt+refit"] == ("gram", True, False)
    assert traits["wanda+refit"] == ("gram", True, True)


@pytest.mark.parametrize("name", ["wonda", "refit", "wanda+", "wanda+refit+refit", "wanda+sparsegpt", ""])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"allowed: random, magnitude, wanda, sparsegpt, random\+refit"):
        make_pruner(name, {})


def test_unknown_options_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="sparsegpt has no option 'blocksize'; allowed: block_size, damping"):
        make_pruner("sparsegpt", {"blocksize": 3})
    with pytest.raises(ValueError, match="no options"):
        make_pruner("random", {"group": "row"})
    with pytest.raises(ValueError, match="no option 'chooser'"):
        make_pruner("wanda+refit", {"chooser": "magnitude"})


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("magnitude", "group", "column"),
        ("wanda", "group", 3),
        ("wanda", "group", ["row"]),
        ("sparsegpt", "block_size", 0),
        ("sparsegpt", "block_size", 1.5),
        ("sparsegpt", "block_size", True),
        ("sparsegpt", "damping", 0),
        ("sparsegpt", "damping", float("nan")),
        ("sparsegpt", "damping", "0.1"),
        ("wanda+refit", "ridge", -1),
        ("wanda+refit", "ridge", 1e-9),
        ("wanda+refit", "iterations", 0),
        ("wanda+refit", "tolerance", float("inf")),
    ],
)
def test_bad_values_are_refused_with_option_and_value(name, option, value):
    with pytest.raises(ValueError, match=f"{option} is .*allowed") as caught:
        make_pruner(name, {option: value})
    assert repr(value) in str(caught.value)
    assert "\n" not in str(caught.value)
