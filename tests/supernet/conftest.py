import pytest
import torch

from sparsearch.model.load import wrap_model
from sparsearch.model.panel import Panel
from sparsearch.model.sites import find_sites
from sparsearch.pruning import make_pruner
from sparsearch.space import level_grid, linear_space
from sparsearch.supernet import BuildPlan

LEVELS = [0.3, 0.5, 0.7, 0.9]


def make_panel(count: int = 6, length: int = 16, seed: int = 0) -> Panel:
    generator = torch.Generator().manual_seed(seed)
    return Panel({"input_ids": torch.randint(0, 2048, (count, length), generator=generator)})


@pytest.fixture
def plan_for():
    """(model module, pruner, levels) -> (PrunableModel, BuildPlan)."""

    def make(module, pruner="sparsegpt", levels=LEVELS, storage=torch.float32, **parts):
        model = wrap_model(module, "tiny", storage)
        space = linear_space(find_sites(model), level_grid(list(levels)), itemsize=storage.itemsize)
        return model, BuildPlan(space, make_pruner(pruner, {}), make_panel(), **parts)

    return make
