"""The gradient-trace objective against the model's own loss and autograd, in float64."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from transformers.pytorch_utils import Conv1D

from sparsearch.errors import ConfigError
from sparsearch.evaluation.objectives.trace import pearson
from sparsearch.evaluation.sensitivity import Sensitivity
from sparsearch.evaluation.tracer import RANK
from sparsearch.seeds import spawn_integer
from sparsearch.space import Allocation


def space_of(evaluator):
    return evaluator.switcher.supernet.space


def some_allocations(evaluator, count, seed=0):
    rng = np.random.default_rng(seed)
    return [Allocation.of(rng.integers(0, space_of(evaluator).counts)) for _ in range(count)]


def matrix(side, dimension):
    generator = torch.Generator().manual_seed(spawn_integer(0, "trace", side, dimension))
    return torch.randn((RANK, dimension), generator=generator, dtype=torch.float64).numpy()


def gradients(evaluator, allocation, rows):
    """`[rows, sites]` of G `[out, in]`, by the model's own loss, one sequence at a time."""
    evaluator.switcher.switch(allocation)
    module, sites = evaluator.model.module, space_of(evaluator).sites
    layers = [module.get_submodule(site.module) for site in sites]
    weights = [layer.weight.requires_grad_() for layer in layers]
    found = []
    for row in rows:
        ids = evaluator.panel.items["input_ids"][[row]]
        whole = torch.autograd.grad(module(input_ids=ids, labels=ids).loss, weights)
        found.append(
            [(g.T if isinstance(layer, Conv1D) else g).numpy() for g, layer in zip(whole, layers, strict=True)]
        )
    for weight in weights:
        weight.requires_grad_(False)
    return found


def projected_gradients(evaluator, allocation, rows):
    """`[rows, sites]` of P G A^T."""
    return [
        [matrix("out", len(g)) @ g @ matrix("in", g.shape[1]).T for g in row]
        for row in gradients(evaluator, allocation, rows)
    ]


def correlations(first, second):
    """Pearson's, `[rows, sites]`."""
    return np.array(
        [
            [pearsonr(one.ravel(), other.ravel()).statistic for one, other in zip(*pair, strict=True)]
            for pair in zip(first, second, strict=True)
        ]
    )


def expected(evaluator, allocation, rows):
    space = space_of(evaluator)
    dense, pruned = (projected_gradients(evaluator, each, rows) for each in (space.dense(), allocation))
    kept = [
        site.size - levels[index].removed(site.shape)
        for site, levels, index in zip(space.sites, space.levels, allocation.levels, strict=True)
    ]
    return 1 - correlations(dense, pruned) @ kept / np.sum(kept)


@pytest.mark.parametrize(
    ("family", "targets"),
    [("llama", ["*", "lm_head"]), ("llama_tied", ["*"]), ("gpt2", ["*"]), ("gemma2", ["*"]), ("mixtral", ["*"])],
)
def test_values_are_those_of_the_models_own_gradients_in_float64(family, targets, evaluator_for):
    # The kernel behind routed experts knows no float64.
    evaluator = evaluator_for(family, ("trace",), count=3, targets=targets, double=family != "mixtral")
    (allocation,) = some_allocations(evaluator, 1)
    found = evaluator.values([allocation], [0, 2])[0]
    # Some families normalise in float32 whatever the dtype.
    np.testing.assert_allclose(found, expected(evaluator, allocation, [0, 2]), rtol=1e-3)
    assert (found > 0.01).all()


def test_traces_keep_the_correlations_of_the_whole_gradients(evaluator_for):
    evaluator = evaluator_for("llama", ("trace",), count=3, double=True)
    space, rows = space_of(evaluator), range(3)
    batch = evaluator.panel.batch(rows)
    (allocation,) = some_allocations(evaluator, 1)
    dense, pruned = (gradients(evaluator, each, rows) for each in (space.dense(), allocation))
    evaluator.switcher.switch(allocation)
    tracer = evaluator.tracer
    student = tracer.traces(list(rows), batch)  # the model stays as it was switched, though nothing was learned yet
    tracer.learn(list(rows), batch)
    found = pearson(student, tracer.dense(rows)).numpy()
    whole = correlations(dense, pruned)
    assert np.abs(found - whole).max() < 0.25
    assert np.abs(found - whole).mean() < 0.05
    assert np.corrcoef(found.ravel(), whole.ravel())[0, 1] > 0.95


def test_the_dense_model_is_at_0_and_sparser_models_are_further_away(evaluator_for):
    evaluator = evaluator_for("llama", ("trace",))
    space = space_of(evaluator)
    ladder = [space.dense(), *(Allocation((level,) * len(space)) for level in (1, 2, 3))]
    means = evaluator.values(ladder, range(6)).mean(axis=1)
    assert abs(means[0]) < 1e-6
    assert (np.diff(means) > 0.01).all()


def test_pearson_is_scipys_and_a_missing_gradient_is_no_correlation_unless_both_miss_it():
    first, second = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 4, 9)))
    first[1] = second[2] = first[3] = second[3] = 0
    found = pearson(first, second).numpy()
    np.testing.assert_allclose(found, [pearsonr(first[0], second[0]).statistic, 0, 0, 1])


def test_gradients_that_are_no_numbers_are_told_not_taken_for_uncorrelated():
    broken = torch.tensor([[1.0, 2.0, torch.nan], [1.0, 2.0, torch.inf]], dtype=torch.float64)
    assert pearson(broken, torch.ones(2, 3, dtype=torch.float64).cumsum(dim=1)).isnan().all()


def test_values_depend_neither_on_company_nor_on_memory(evaluator_for):
    evaluator, small = (evaluator_for("llama", ("trace",), batch_size=size) for size in (6, 2))
    allocations = some_allocations(evaluator, 3)
    together = evaluator.values(allocations, range(6))
    alone = np.concatenate([evaluator.values([each], range(6)) for each in allocations])
    assert (together == alone).all()
    np.testing.assert_allclose(small.values(allocations, range(6)), together, rtol=1e-3)


def test_it_goes_beside_objectives_that_reuse_prefixes_and_changes_none_of_their_bits(evaluator_for):
    evaluator, plain = (evaluator_for("llama", names) for names in (("trace", "perplexity", "kl"), ("perplexity",)))
    allocations = some_allocations(evaluator, 4)
    for found, wanted in zip(
        evaluator.evaluate(allocations, range(6)), plain.evaluate(allocations, range(6)), strict=True
    ):
        assert list(found.values) == ["trace", "perplexity", "kl"]
        assert (found.values["perplexity"] == wanted.values["perplexity"]).all()


def test_a_value_costs_a_forward_and_a_backward(evaluator_for):
    evaluator = evaluator_for("llama", ("trace",))
    evaluations = list(evaluator.evaluate(some_allocations(evaluator, 3), [0, 1, 4]))
    tokens = 3 * evaluator.panel.length
    assert [each.forward_tokens for each in evaluations] == [3 * tokens] * 3
    assert evaluator.objectives[0].passes == 3
    # Besides: the dense model's traces, what a sequence takes in memory, and the segments.
    length = evaluator.panel.length
    assert evaluator.spent.forward_tokens == 4 * tokens + 2 * length
    assert evaluator.spent.backward_tokens == 4 * tokens + length
    assert evaluator.spent.reused_tokens == 0


def test_the_model_is_left_as_it_was(evaluator_for):
    evaluator = evaluator_for("llama", ("trace",))
    module = evaluator.model.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    evaluator.values(some_allocations(evaluator, 2), range(6))
    evaluator.switcher.restore()
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in module.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_it_has_no_sensitivities(evaluator_for):
    with pytest.raises(ConfigError, match="trace compares gradients and has no sensitivities; use kl"):
        Sensitivity(evaluator_for("llama", ("trace",)))
