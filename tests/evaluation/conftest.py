import pytest
import torch

from sparsearch.evaluation.evaluator import Evaluator
from sparsearch.evaluation.objectives import make_objective
from sparsearch.model.load import wrap_model
from sparsearch.model.panel import Panel
from sparsearch.model.sites import find_sites
from sparsearch.pruning import make_pruner
from sparsearch.space import level_grid, linear_space
from sparsearch.supernet import BuildPlan, Switcher, build_supernet


def make_panel(count: int, length: int = 16, seed: int = 1) -> Panel:
    generator = torch.Generator().manual_seed(seed)
    return Panel({"input_ids": torch.randint(0, 2048, (count, length), generator=generator)})


@pytest.fixture
def evaluator_for(tiny_model, tmp_path):
    """(family or module, objective) -> Evaluator on a small random panel."""

    def make(family="llama", objectives=("kl",), count=6, length=16, targets=("*",), **options):
        module = tiny_model(family) if isinstance(family, str) else family
        module = module.double() if options.pop("double", False) else module
        model = wrap_model(module, "tiny")
        space = linear_space(find_sites(model, targets), level_grid([0.3, 0.6, 0.9]), itemsize=4)
        plan = BuildPlan(space, make_pruner("magnitude", {}), make_panel(4, seed=2))
        supernet = build_supernet(model, plan, tmp_path / str(len(list(tmp_path.iterdir()))))
        made = [make_objective(name) for name in objectives]
        return Evaluator(model, Switcher(model, supernet), make_panel(count, length), made, **options)

    return make
