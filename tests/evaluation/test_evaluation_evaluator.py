import numpy as np
import pytest
import torch
from torch.nn import functional
from toy_blocks import TOYS, make_toy

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.space import Allocation


def some_allocations(evaluator, count, seed=0):
    """Mutants of a few parents, so that prefixes of many lengths are shared."""
    space = evaluator.switcher.supernet.space
    rng = np.random.default_rng(seed)
    found = [Allocation.of(rng.integers(0, space.counts))]
    while len(found) < count:
        parent = found[rng.integers(len(found))].array
        parent[rng.integers(len(space))] = rng.integers(0, 4)
        if (child := Allocation.of(parent)) not in found:
            found.append(child)
    return found


def whole_model_logits(evaluator, allocation, rows):
    evaluator.switcher.switch(allocation)
    with torch.no_grad():
        output = evaluator.model.module(**evaluator.panel.batch(rows))
    return output.logits if "logits" in output else output.last_hidden_state


LANGUAGE_MODELS = ["llama", "llama_tied", "gpt2", "opt", "gemma2", "gemma3", "phi3", "gpt_neox", "mixtral"]


def kl_and_cross_entropy(evaluator, allocation, rows):
    """Of ordinary forwards, `[rows]` each: the softmaxes and sums in float64, whatever the model computes in."""
    dense = whole_model_logits(evaluator, evaluator.switcher.supernet.space.dense(), rows).double().log_softmax(-1)
    pruned = whole_model_logits(evaluator, allocation, rows).double().log_softmax(-1)
    kl = (dense.exp() * (dense - pruned)).sum(-1).mean(1)
    ids = evaluator.panel.batch(rows)["input_ids"]
    nll = torch.stack([functional.nll_loss(pruned[row, :-1], ids[row, 1:]) for row in rows])
    return kl.numpy(), nll.numpy()


@pytest.mark.parametrize("family", LANGUAGE_MODELS)
def test_kl_and_cross_entropy_are_those_of_ordinary_forwards_in_float64(family, tiny_model, evaluator_for):
    module = tiny_model(family)
    module.set_experts_implementation("eager")  # the grouped products know no float64
    evaluator = evaluator_for(module, ("kl", "perplexity"), count=3, double=True)
    allocation = some_allocations(evaluator, 1)[0]
    (evaluation,) = evaluator.evaluate([allocation], [0, 1, 2])
    kl, nll = kl_and_cross_entropy(evaluator, allocation, [0, 1, 2])
    np.testing.assert_allclose(evaluation.values["kl"], kl, rtol=1e-7)
    np.testing.assert_allclose(evaluation.values["perplexity"], nll, rtol=1e-5)


@pytest.mark.parametrize("family", LANGUAGE_MODELS)
def test_a_float32_model_has_the_same_kl_and_cross_entropy(family, evaluator_for):
    """But for the log-softmaxes' rounding, of the order of 1e-7: without AVX-512 up to 1.7e-7 here."""
    evaluator = evaluator_for(family, ("kl", "perplexity"), count=3)
    allocation = some_allocations(evaluator, 1)[0]
    (evaluation,) = evaluator.evaluate([allocation], [0, 1, 2])
    kl, nll = kl_and_cross_entropy(evaluator, allocation, [0, 1, 2])
    np.testing.assert_allclose(evaluation.values["kl"], kl, rtol=2e-4, atol=5e-7)
    np.testing.assert_allclose(evaluation.values["perplexity"], nll, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_hidden_error_is_relative_to_the_dense_states(family, evaluator_for):
    evaluator = evaluator_for(family, ("hidden",), count=2)
    allocation = some_allocations(evaluator, 1)[0]
    values = evaluator.values([allocation], [0, 1])[0]
    states = []
    for each in (evaluator.switcher.supernet.space.dense(), allocation):
        evaluator.switcher.switch(each)
        with torch.no_grad():
            states.append(evaluator.model.module.base_model(**evaluator.panel.batch([0, 1])).last_hidden_state.double())
    expected = (states[1] - states[0]).square().sum((1, 2)) / states[0].square().sum((1, 2))
    np.testing.assert_allclose(values, expected.numpy(), rtol=1e-5)


def test_the_dense_model_has_no_divergence(evaluator_for):
    evaluator = evaluator_for("llama", ("kl",))
    values = evaluator.values([evaluator.switcher.supernet.space.dense()], range(6))
    assert np.abs(values).max() < 1e-6


def one_by_one(evaluator, allocations):
    return np.concatenate([evaluator.values([allocation], range(6)) for allocation in allocations])


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("llama", ("*", "lm_head")),
        ("gpt2", ("*",)),
        ("opt", ("*",)),
        ("gemma2", ("*",)),
        ("gemma3", ("mlp.*",)),
        ("phi3", ("*",)),
        ("gpt_neox", ("*",)),
        ("mixtral", ("*",)),
        ("bert", ("*",)),
    ],
)
@pytest.mark.parametrize("batch_size", [2, 4])
def test_prefix_reuse_gives_the_same_bits_as_one_by_one(family, targets, batch_size, evaluator_for):
    objective = "hidden" if family == "bert" else "kl"
    evaluator = evaluator_for(family, (objective,), targets=targets, batch_size=batch_size)
    allocations = some_allocations(evaluator, 16)
    together = evaluator.values(allocations, range(6))
    assert evaluator.spent.reused_tokens > 0
    assert (one_by_one(evaluator, allocations) == together).all()


@pytest.mark.parametrize("toy", TOYS)
def test_blocks_with_habits_of_their_own_give_the_same_bits(toy, evaluator_for):
    evaluator = evaluator_for(make_toy(TOYS[toy]), ("hidden",), targets=("*", "front", "behind"))
    allocations = some_allocations(evaluator, 24)
    together = evaluator.values(allocations, range(6))
    assert (evaluator.spent.reused_tokens > 0) == (toy not in ("WritesToItsInput", "TellsLaterBlocks"))
    assert (one_by_one(evaluator, allocations) == together).all()


@pytest.mark.parametrize("state_bytes", [0, 3 * 4096, 3 * 12000])
def test_a_bound_on_memory_only_costs_recomputation(state_bytes, evaluator_for):
    evaluator, bounded = (
        evaluator_for("opt", batch_size=2, **options) for options in ({}, {"state_bytes": state_bytes})
    )
    allocations = some_allocations(evaluator, 16)
    assert (evaluator.values(allocations, range(6)) == bounded.values(allocations, range(6))).all()
    assert (bounded.spent.reused_tokens > 0) == (state_bytes > 0)
    assert bounded.spent.reused_tokens < evaluator.spent.reused_tokens


@pytest.mark.parametrize("family", ["llama", "opt", "mixtral"])
def test_every_distinct_prefix_is_computed_and_counted_once(family, evaluator_for):
    evaluator = evaluator_for(family)
    allocations = some_allocations(evaluator, 16)
    evaluator.values(allocations, range(6))
    tokens = 6 * evaluator.panel.length
    assert evaluator.shares.sum() == pytest.approx(1)
    segments = evaluator.segments
    prefixes = [
        len({tuple(each.array[segments.sites <= segment]) for each in allocations})
        for segment in range(len(segments.modules))
    ]
    run = tokens * np.dot(evaluator.shares, [*prefixes, len(allocations)])
    overhead = tokens + evaluator.panel.length  # the teacher's forward, and the one that finds the segments
    assert evaluator.spent.forward_tokens == pytest.approx(run + overhead)
    assert evaluator.spent.reused_tokens == pytest.approx(len(allocations) * tokens - run)


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_shares_are_those_of_matrix_weights(family, evaluator_for):
    evaluator = evaluator_for(family)
    block = evaluator.model.blocks[0]
    names = ["self_attn", "mlp"] if family == "llama" else ["self_attn", "fc1", "fc2"]
    sizes = [sum(p.numel() for p in block.get_submodule(name).parameters() if p.dim() > 1) for name in names]
    head = evaluator.model.module.lm_head.weight.numel()
    np.testing.assert_allclose(evaluator.shares, np.array([*sizes, *sizes, head]) / (2 * sum(sizes) + head))


def test_a_head_that_is_a_site_leaves_the_teacher_dense(evaluator_for):
    evaluator = evaluator_for("llama", targets=("*", "lm_head"), count=2)
    space = evaluator.switcher.supernet.space
    assert space.sites[-1].name == "lm_head"
    allocation = space.dense().replace({len(space) - 1: 3})
    dense = whole_model_logits(evaluator, space.dense(), [0, 1]).double().log_softmax(-1)
    pruned = whole_model_logits(evaluator, allocation, [0, 1]).double().log_softmax(-1)
    kl = (dense.exp() * (dense - pruned)).sum(-1).mean(1)
    np.testing.assert_allclose(evaluator.values([allocation], [0, 1])[0], kl.numpy(), rtol=1e-4)


def test_values_do_not_depend_on_what_was_evaluated_before(evaluator_for):
    evaluator = evaluator_for("llama")
    allocations = some_allocations(evaluator, 6)
    first = evaluator.values(allocations[:1], [3, 1])
    evaluator.values(allocations[1:], range(6))
    assert (evaluator.values(allocations[:1], [3, 1]) == first).all()


def test_nan_is_reported_with_the_sequence(evaluator_for):
    evaluator = evaluator_for("llama")
    evaluator.values([evaluator.switcher.supernet.space.dense()], [0, 1])
    evaluator.model.module.model.norm.weight.data[0] = torch.nan
    with pytest.raises(ResourceError, match="sequence 1 of the panel"):
        evaluator.values([evaluator.switcher.supernet.space.sparsest()], [1])


def test_an_empty_panel_is_refused(evaluator_for):
    with pytest.raises(ConfigError, match="panel is empty"):
        evaluator_for("llama", count=0)
