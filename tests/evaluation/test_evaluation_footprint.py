from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sparsearch.evaluation.footprint import Footprint, Stage, memory_bound
from sparsearch.evaluation.live_bytes import LiveBytes
from sparsearch.evaluation.sensitivity import Sensitivity


def test_peaks_are_what_is_alive_at_once():
    footprint = Footprint((Stage(10, 12), Stage(30, 35), Stage(25, 70)), state=4)
    assert footprint.whole == 10 + 30 + 25 + (70 - 25)
    assert footprint.by_block(5) == 2 * 4 + 2 * 5 * 4 + 70


@pytest.mark.parametrize(
    ("family", "objective"), [("llama", "kl"), ("gpt2", "perplexity"), ("mixtral", "hidden"), ("bert", "hidden")]
)
def test_a_measurement_predicts_the_peak(family, objective, evaluator_for):
    evaluator = evaluator_for(family, (objective,), count=4, length=64)
    sensitivity = Sensitivity(evaluator)
    space = evaluator.switcher.supernet.space
    footprint = sensitivity.footprint
    sensitivity.at(space.dense(), range(4))  # what is made once: the teacher's states and logits
    with LiveBytes([*evaluator.model.module.parameters(), *evaluator.model.module.buffers()]) as live:
        sensitivity.at(space.dense(), range(4))
    moves = 4 * 4 * 2 * max(site.size for site in space.sites)
    assert 0.85 * 4 * footprint.whole < live.peak < 1.1 * 4 * footprint.whole + moves


def test_the_tail_holds_one_scalars_logits(evaluator_for):
    evaluator = evaluator_for("llama", ("perplexity",), length=64)
    logits = 63 * 2048 * 4
    tail = Sensitivity(evaluator).footprint.stages[-1]
    assert logits <= tail.held < tail.peak <= 4 * logits


def test_a_measurement_asks_no_teacher_and_leaves_the_model_as_it_was(evaluator_for):
    evaluator = evaluator_for("llama")
    space = evaluator.switcher.supernet.space
    evaluator.switcher.switch(space.sparsest())
    footprint = Sensitivity(evaluator).footprint
    assert len(footprint.stages) == 3
    assert footprint.state == evaluator.panel.length * 32 * 4
    assert evaluator.teacher.missing(range(6)) == list(range(6))
    assert evaluator.spent.forward_tokens == evaluator.spent.backward_tokens == evaluator.panel.length
    assert evaluator.switcher.current == space.sparsest()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in evaluator.model.module.modules())


def test_the_bound_goes_by_the_memory_that_there_is(monkeypatch):
    assert memory_bound(SimpleNamespace(device=torch.device("cpu"), module=nn.Linear(10, 10))) == 4 * 2**30
    device = torch.device("cuda", 0)
    here, elsewhere = SimpleNamespace(device=device, nbytes=400), SimpleNamespace(device=None, nbytes=9)
    module = SimpleNamespace(parameters=lambda: [here, elsewhere])
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda device: SimpleNamespace(total_memory=1000))
    assert memory_bound(SimpleNamespace(device=device, module=module)) == 300
