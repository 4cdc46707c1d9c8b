import numpy as np
import pytest
import torch

from sparsearch.evaluation.backward import backward_by_block, backward_whole
from sparsearch.evaluation.objectives.labels import inverse_cdf
from sparsearch.evaluation.sensitivity import Sensitivity
from sparsearch.evaluation.student import StudentOutputs
from sparsearch.space import Allocation

STEP = 3e-3  # some families normalise in float32 whatever the dtype: smaller steps drown in its rounding


@pytest.fixture
def force(monkeypatch):
    """Makes sensitivities run in one mode, whatever the memory."""

    def use(mode):
        run = backward_by_block if mode == "by block" else backward_whole
        for name in ("backward_whole", "backward_by_block"):
            monkeypatch.setattr(f"sparsearch.evaluation.sequence_backward.{name}", run)

    return use


def move(evaluator, moves, step):
    """Moves each site by `step` of the way to its level, in place; returns what was there."""
    switcher = evaluator.switcher
    kept = {}
    for site, level in moves.items():
        view = switcher.weight(site)
        kept[site] = view.clone()
        view += step * (switcher.variant(site, level).to(view) - kept[site])
    return kept


def moved_outputs(evaluator, moves, step, compute):
    kept = move(evaluator, moves, step)
    try:
        rows, batch = evaluator.batches(range(len(evaluator.panel)))[0]
        with torch.no_grad():
            return compute(rows, batch, evaluator.runner.run(batch).hidden)
    finally:
        for site, weight in kept.items():
            evaluator.switcher.weight(site).copy_(weight)


def objective_values(evaluator, rows, batch, hidden):
    teacher = evaluator.teacher.outputs(rows, batch) if evaluator.teacher else None
    return evaluator.objectives[0].values(StudentOutputs(evaluator.runner, hidden, batch), teacher, batch).numpy()


@pytest.mark.parametrize("mode", ["whole", "by block"])
@pytest.mark.parametrize(
    ("family", "objective", "targets"),
    [
        ("llama", "kl", ["*"]),
        ("llama", "perplexity", ["*.1.mlp.*", "lm_head"]),
        ("llama_tied", "perplexity", ["*"]),
        ("gpt2", "kl", ["*"]),
        ("opt", "kl", ["*"]),
        ("gemma2", "kl", ["*"]),
        ("bert", "hidden", ["*"]),
    ],
)
def test_every_gradient_entry_is_the_finite_difference(mode, family, objective, targets, evaluator_for, force):
    """Weights and activations in float64, central differences, every site, every level, every sequence."""
    force(mode)
    evaluator = evaluator_for(family, (objective,), count=2, double=True, targets=targets)
    space = evaluator.switcher.supernet.space
    allocation = Allocation.of(np.random.default_rng(0).integers(0, 3, len(space)))
    table = Sensitivity(evaluator).at(allocation, range(2)).gradient

    def values(rows, batch, hidden):
        return objective_values(evaluator, rows, batch, hidden)

    for site in range(len(space)):
        for level in range(4):
            ahead, behind = (moved_outputs(evaluator, {site: level}, step, values) for step in (STEP, -STEP))
            np.testing.assert_allclose(table[:, site, level], (ahead - behind) / (2 * STEP), rtol=2e-3, atol=2e-6)
    assert (table[:, np.arange(len(space)), allocation.array] == 0).all()


def exact_curvature(evaluator, moves):
    """`D^T GGN D` of the mean objective, D the joint move, from a finite difference of exact outputs."""
    has_head = evaluator.objectives[0].needs_head

    def outputs(rows, batch, hidden):
        return evaluator.runner.head(hidden, batch) if has_head else hidden

    change = (moved_outputs(evaluator, moves, STEP, outputs) - moved_outputs(evaluator, moves, -STEP, outputs)) / (
        2 * STEP
    )
    if not has_head:
        rows, batch = evaluator.batches(range(len(evaluator.panel)))[0]
        dense = evaluator.teacher.outputs(rows, batch).hidden.double()
        return (2 * change.square().sum((1, 2)) / dense.square().sum((1, 2))).mean().item()
    q = moved_outputs(evaluator, {}, 0, outputs).softmax(-1)
    # The Hessian of KL by the logits is diag(q) - q q^T.
    form = (q * change.square()).sum(-1) - (q * change).sum(-1).square()
    return form.mean().item()


@pytest.mark.parametrize(("family", "objective"), [("llama", "kl"), ("bert", "hidden")])
def test_features_estimate_the_exact_curvature_of_joint_moves(family, objective, evaluator_for):
    """V V^T against the exact Fisher (or J^T J) of two-token sequences: unbiased, so many draws come close."""
    evaluator = evaluator_for(family, (objective,), count=2, double=True, length=2)
    space = evaluator.switcher.supernet.space
    allocation = Allocation.of(np.random.default_rng(1).integers(0, 3, len(space)))
    features = Sensitivity(evaluator).at(allocation, range(2), gradient=False, draws=150, seed=3).features
    assert features.shape[0] == 300
    for moves in ({0: 3}, {len(space) - 1: 3}, {0: 3, 5: 3, len(space) - 1: 3}):
        joint = sum(features[:, site, level].astype(np.float64) for site, level in moves.items())
        squares = joint**2
        error = squares.std() / np.sqrt(len(squares))
        exact = exact_curvature(evaluator, moves)
        assert abs(squares.mean() - exact) < 4.5 * error
        assert error < 0.15 * exact, "the draws are enough to tell"


def test_tables_do_not_depend_on_the_batch_split(evaluator_for):
    whole, split = evaluator_for("llama", batch_size=6), evaluator_for("llama", batch_size=2)
    allocation = Allocation((1,) * len(whole.switcher.supernet.space))
    a = Sensitivity(whole).at(allocation, range(6), draws=2, seed=5)
    b = Sensitivity(split).at(allocation, range(6), draws=2, seed=5)
    np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-3, atol=1e-7)
    np.testing.assert_allclose(a.features, b.features, rtol=1e-3, atol=1e-6)


def test_levels_in_slices_give_the_same_table(evaluator_for, monkeypatch):
    evaluator = evaluator_for("llama")
    allocation = Allocation((2,) * len(evaluator.switcher.supernet.space))
    whole = Sensitivity(evaluator).at(allocation, range(3), draws=1)
    monkeypatch.setattr("sparsearch.evaluation.sensitivity.MOVE_ELEMENTS", 1)
    sliced = Sensitivity(evaluator).at(allocation, range(3), draws=1)
    np.testing.assert_allclose(whole.gradient, sliced.gradient, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(whole.features, sliced.features, rtol=1e-4, atol=1e-7)


def test_the_gradient_of_kl_vanishes_at_the_dense_model(evaluator_for):
    evaluator = evaluator_for("llama", double=True)
    dense = evaluator.switcher.supernet.space.dense()
    assert np.abs(Sensitivity(evaluator).at(dense, range(4)).gradient).max() < 1e-6


@pytest.mark.parametrize("mode", ["whole", "by block"])
def test_work_is_counted_and_the_model_is_left_as_it_was(mode, evaluator_for, force):
    force("by block" if mode == "by block" else "whole")
    evaluator = evaluator_for("llama")
    module = evaluator.model.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    bound = None if mode == "whole" else 0
    sensitivity = Sensitivity(evaluator, bound)
    dense = evaluator.switcher.supernet.space.dense()
    length, head = evaluator.panel.length, evaluator.shares[-1]
    for requests in (1, 2):
        sensitivity.at(dense, range(4), draws=2)
        # Each scalar makes its own logits, so the head runs three times.
        forwards = 1 + 2 * head + (0 if mode == "whole" else 1 - head)
        once = 4 * length + length + length  # the teacher, the measurement, and finding the segments
        assert evaluator.spent.forward_tokens == pytest.approx(once + requests * 4 * length * forwards)
        assert evaluator.spent.backward_tokens == requests * 4 * 3 * length + length
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in module.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_inverse_cdf_draws_with_the_given_probabilities():
    probabilities = torch.tensor([0.1, 0.0, 0.6, 0.3]).expand(40_000, 4)
    drawn = inverse_cdf(probabilities, torch.rand(40_000, generator=torch.Generator().manual_seed(0)))
    frequencies = torch.bincount(drawn, minlength=4) / 40_000
    assert frequencies[1] == 0
    torch.testing.assert_close(frequencies, probabilities[0], atol=0.01, rtol=0)
