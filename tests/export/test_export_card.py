"""The model card: metadata that the hub can read, figures, and nothing that breaks out of its place."""

import yaml

from sparsearch.export.card import model_card
from sparsearch.space import Profile

FIGURES = (("allocation", "KL"), [("dense", "0"), ("searched", "0.149 [0.140, 0.158]")])
CONFIG = "budget:\n  sparsity: 0.6\nseed: 0\n"


def profile(kind="mlp.up_proj"):
    sites = tuple(
        {
            "name": f"b.{block}",
            "kind": kind,
            "block": block,
            "shape": [4, 10],
            "level": str(level),
            "sparsity": level,
        }
        for block, level in enumerate([0.2, 0.6])
    )
    return Profile(sites, {"sparsity": "0.4"}, {})


def card(base_model="Qwen/Qwen3-0.6B", config_yaml=CONFIG, kind="mlp.up_proj"):
    return model_card(profile(kind), base_model=base_model, figures=FIGURES, config_yaml=config_yaml)


def metadata(text):
    _, block, _ = text.split("---\n", 2)
    return yaml.safe_load(block)


def test_metadata_names_base_model_tags_and_library():
    assert metadata(card()) == {
        "base_model": "Qwen/Qwen3-0.6B",
        "tags": ["pruned", "sparse", "sparsearch"],
        "library_name": "transformers",
    }


def test_figures_config_sparsity_and_the_honest_line_are_there():
    text = card()
    assert "| searched | 0.149 \\[0.140, 0.158\\] |" in text
    assert CONFIG in text
    assert "40.00% sparsity over its 2 prunable layers (budget: sparsity 0.4)" in " ".join(text.split())
    assert "| mlp.up_proj | 2 | 40.0% | 20.0% | 60.0% |" in text
    assert "neither smaller nor faster" in text
    assert "from_pretrained" in text


def test_a_local_path_does_not_show_the_machine():
    text = card(base_model="/home/someone/models/my-lm")
    assert metadata(text)["base_model"] == "my-lm"
    assert "someone" not in text


def test_hostile_names_stay_in_their_cells_and_fences():
    text = card(config_yaml="a: |\n  ```\n  # heading\n", kind="a | b\n\n# c <img src=x>")
    assert "````yaml\na: |\n  ```\n  # heading\n````" in text
    assert "| a \\| b # c \\<img src=x\\> |" in text
