"""Block by block against the whole model: the same numbers, and only one block's memory."""

import weakref
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from transformers import LlamaConfig, LlamaForCausalLM

from sparsearch.evaluation import sequence_backward
from sparsearch.evaluation.backward import backward_by_block, backward_whole
from sparsearch.evaluation.live_bytes import LiveBytes
from sparsearch.evaluation.sensitivity import Sensitivity
from sparsearch.space import Allocation


def some_allocation(evaluator):
    return Allocation.of(np.random.default_rng(0).integers(0, 3, len(evaluator.switcher.supernet.space)))


def tables(evaluator, sequences, bound=None):
    found = Sensitivity(evaluator, bound).at(some_allocation(evaluator), sequences, draws=2, seed=7)
    return found.gradient, found.features


def assert_modes_agree(evaluator, monkeypatch, rtol, atol):
    """The whole model, block by block for the batch, and block by block for one sequence at a time."""
    count = len(evaluator.panel)
    whole = tables(evaluator, range(count), 2**60)
    one_by_one = tables(evaluator, range(count), 0)
    monkeypatch.setattr(sequence_backward, "backward_whole", backward_by_block)
    by_block = tables(evaluator, range(count), 2**60)
    for other in (by_block, one_by_one):
        for expected, found in zip(whole, other, strict=True):
            assert np.abs(expected).max() > 1e-7
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol * np.abs(expected).max())


class Folded(nn.Module):
    """Folds sequences and tokens into one dimension, as routed experts do."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.flatten(0, 1)).view_as(x)


class TwoStreams(nn.Module):
    """A plain model whose blocks hand on a tuple: both of its tensors carry gradients, the third is an integer."""

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.up = nn.Linear(width, 2 * width)
            self.down = nn.Linear(2 * width, width)

        def forward(self, state):
            hidden, carry, positions = state
            both = self.up(hidden + carry.tanh() + positions[:, None] / 9)
            return hidden + self.down(both.relu()), carry * 0.9 + both[..., : carry.shape[-1]], positions

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(2048, 12)
        self.project = nn.Linear(12, 16)
        self.blocks = nn.ModuleList(self.Block(16) for _ in range(3))
        self.norm = nn.LayerNorm(16)

    def forward(self, input_ids):
        hidden = self.project(self.embed(input_ids))
        state = (hidden, hidden * 0.5, torch.arange(input_ids.shape[1]))
        for block in self.blocks:
            state = block(state)
        return self.norm(state[0] + state[1])


CASES = [(family, "kl") for family in ("gemma3", "qwen3", "phi3", "gpt_neox")] + [
    (family, objective)
    for family in ("llama", "llama_tied", "gpt2", "opt", "gemma2")
    for objective in ("kl", "perplexity", "hidden")
]


@pytest.mark.parametrize(("family", "objective"), [*CASES, ("bert", "hidden")])
def test_modes_agree_on_every_family(family, objective, evaluator_for, monkeypatch):
    evaluator = evaluator_for(family, (objective,), count=3, double=True)
    assert_modes_agree(evaluator, monkeypatch, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("family", "objective"), [("llama", "kl"), ("gpt2", "perplexity"), ("mixtral", "kl"), ("bert", "hidden")]
)
def test_modes_agree_in_single_precision(family, objective, evaluator_for, monkeypatch):
    evaluator = evaluator_for(family, (objective,), count=3)
    assert_modes_agree(evaluator, monkeypatch, rtol=1e-4, atol=1e-5)


def test_modes_agree_where_the_head_is_a_site(evaluator_for, monkeypatch):
    """In slices of positions, so that the teacher's dense head runs between pieces of the student's graph."""
    monkeypatch.setattr("sparsearch.evaluation.objectives.chunks.POSITIONS", 5)
    evaluator = evaluator_for("llama", targets=("*", "lm_head"), count=3, double=True)
    assert_modes_agree(evaluator, monkeypatch, rtol=1e-10, atol=1e-10)
    gradient, features = tables(evaluator, range(3))
    assert np.abs(gradient[:, -1]).max() > 0 and np.abs(features[:, -1]).max() > 0


def test_modes_agree_where_blocks_share_weights_or_modules(evaluator_for, tiny_model, monkeypatch):
    module = tiny_model("llama")
    first, second = module.model.layers
    second.mlp = first.mlp
    second.self_attn.o_proj.weight = first.self_attn.o_proj.weight
    evaluator = evaluator_for(module, count=3, double=True)
    assert len(evaluator.switcher.supernet.space) == 14 - 4
    assert_modes_agree(evaluator, monkeypatch, rtol=1e-10, atol=1e-10)


def test_modes_agree_where_inputs_have_no_batch_dimension(evaluator_for, tiny_model, monkeypatch):
    module = tiny_model("llama")
    plain = tables(evaluator_for(tiny_model("llama"), count=3, double=True), range(3))
    for layer in module.model.layers:
        layer.mlp = Folded(layer.mlp)
    evaluator = evaluator_for(module, count=3, double=True)
    assert_modes_agree(evaluator, monkeypatch, rtol=1e-10, atol=1e-10)
    for expected, found in zip(plain, tables(evaluator, range(3)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_modes_agree_where_states_are_tuples_and_a_site_lies_before_the_blocks(evaluator_for, monkeypatch):
    evaluator = evaluator_for(TwoStreams(), ("hidden",), targets=("*", "project"), count=3, double=True)
    assert evaluator.switcher.supernet.space.sites[-1].name == "project"
    assert_modes_agree(evaluator, monkeypatch, rtol=1e-10, atol=1e-10)
    gradient, _ = tables(evaluator, range(3))
    assert (np.abs(gradient).max(axis=(0, 2)) > 0).all(), "every site has a say"


@pytest.fixture
def deep(evaluator_for):
    """Eight blocks whose activations outweigh all else: long sequences, small weights, no vocabulary objective."""
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=16,
        intermediate_size=64,
        num_hidden_layers=8,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return evaluator_for(LlamaForCausalLM(config).eval(), ("hidden",), count=4, length=256)


def peak(evaluator, bound):
    sensitivity = Sensitivity(evaluator, bound)
    sensitivity.at(some_allocation(evaluator), range(4), draws=1)  # what is made once: teacher, dense weights
    module = evaluator.model.module
    with LiveBytes([*module.parameters(), *module.buffers()]) as live:
        sensitivity.at(some_allocation(evaluator), range(4), draws=1)
    return live.peak


def test_block_by_block_holds_the_activations_of_one_block(deep):
    """All storages that any operation makes and that are alive at the same time, counted at their peak."""
    footprint = Sensitivity(deep).footprint
    whole, by_block = 4 * footprint.whole, 4 * footprint.by_block(2)
    assert whole > 3 * by_block
    assert 0.9 * whole < peak(deep, 2**60) < 1.1 * whole
    assert 0.8 * by_block < peak(deep, by_block) < 1.1 * by_block
    assert 0.2 * by_block < peak(deep, 0) < 0.3 * by_block


class SavedBytes:
    """Bytes of what autograd has saved and not yet let go, each storage once."""

    class Saved:
        def __init__(self, tensor):
            self.tensor = tensor.detach()  # an operation's own output would keep its graph alive in a circle

    def __init__(self, module):
        self.weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
        self.now = self.peak = 0
        self.users = Counter()

    def pack(self, tensor):
        saved, storage = self.Saved(tensor), tensor.untyped_storage()
        if storage.data_ptr() not in self.weights:
            self.now += storage.nbytes() * (self.users[storage.data_ptr()] == 0)
            self.peak = max(self.peak, self.now)
            self.users[storage.data_ptr()] += 1
            weakref.finalize(saved, self.release, storage.data_ptr(), storage.nbytes())
        return saved

    def release(self, address, size):
        self.users[address] -= 1
        self.now -= size * (self.users[address] == 0)


def test_autograd_keeps_one_block_alive(deep):
    """The same by another count, which sees autograd alone."""
    found = []
    for bound in (2**60, 4 * Sensitivity(deep).footprint.by_block(2)):
        sensitivity = Sensitivity(deep, bound)
        assert sensitivity.footprint.whole > 0  # measured outside
        saved = SavedBytes(deep.model.module)
        with saved_tensors_hooks(saved.pack, lambda saved: saved.tensor):
            sensitivity.at(some_allocation(deep), range(4), draws=1)
        assert saved.now == 0
        found.append(saved.peak)
    whole, by_block = found
    assert whole / 9 < by_block < whole / 7


def test_the_bound_chooses_the_mode_and_the_sequences_of_a_pass(deep, monkeypatch):
    footprint = Sensitivity(deep).footprint
    ran = []

    def spied(name, run):
        def spy(runner, batch, scalars, begin):
            ran.append((name, len(batch["input_ids"])))
            run(runner, batch, scalars, begin)

        monkeypatch.setattr(sequence_backward, name, spy)

    spied("backward_whole", backward_whole)
    spied("backward_by_block", backward_by_block)
    whole, by_block = footprint.whole, footprint.by_block(1)
    for bound, expected in {
        4 * whole: [("backward_whole", 4)],
        4 * whole - 1: [("backward_by_block", 4)],
        4 * by_block: [("backward_by_block", 4)],
        4 * by_block - 1: [("backward_by_block", 2)] * 2,
        2 * by_block - 1: [("backward_by_block", 1)] * 4,
        0: [("backward_by_block", 1)] * 4,
    }.items():
        ran.clear()
        Sensitivity(deep, bound).at(some_allocation(deep), range(4))
        assert ran == expected
