"""Statistics that need text, against what the plain model's own hooks, outputs and autograd say, in float64."""

import numpy as np
import pytest
import torch
from transformers.pytorch_utils import Conv1D

from sparsearch.evaluation.statistics import measure
from sparsearch.evaluation.statistics.block_change import cosine
from sparsearch.evaluation.statistics.inputs import Moments, _adder
from sparsearch.seeds import spawn_integer
from sparsearch.space.statistics import STATISTICS

SEQUENCES = (0, 2, 3, 5)
PARAMETERS = {"outlier_ratio": {"multiple": 3.0}, "zeroth_order": {"eps": 1e-4}}
TEXT = [name for name, statistic in STATISTICS.items() if statistic.forwards]


def sites_of(evaluator):
    return evaluator.switcher.supernet.space.sites


def ids(evaluator):
    return evaluator.panel.items["input_ids"][list(SEQUENCES)]


def weight_of(evaluator, site):
    module = evaluator.model.module.get_submodule(site.module)
    return module.weight.detach().T if isinstance(module, Conv1D) else module.weight.detach()


def site_inputs(evaluator):
    """Rows that reach each site, `[rows, in]`, from one plain forward of the module."""
    seen, handles = {}, []
    for site in sites_of(evaluator):

        def keep(_module, args, name=site.name):
            seen[name] = args[0].detach().flatten(0, -2).numpy()

        handles.append(evaluator.model.module.get_submodule(site.module).register_forward_pre_hook(keep))
    with torch.no_grad():
        evaluator.model.module(input_ids=ids(evaluator))
    for handle in handles:
        handle.remove()
    return seen


def block_scores(evaluator, block):
    """All `|W_ij| * ||X_j||` of a block."""
    seen = site_inputs(evaluator)
    parts = []
    for site in (site for site in sites_of(evaluator) if site.block == block):
        norms = np.linalg.norm(seen[site.name], axis=0)
        parts.append((np.abs(weight_of(evaluator, site).numpy()) * norms).ravel())
    return np.concatenate(parts)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "bert"])
@pytest.mark.parametrize("statistic", ["outlier_ratio", "median_score"])
def test_scores_of_a_block(family, statistic, evaluator_for):
    objective = "hidden" if family == "bert" else "kl"
    evaluator = evaluator_for(family, (objective,), double=True, batch_size=3)
    table = measure(evaluator, statistic, SEQUENCES, PARAMETERS.get(statistic, {}))
    rows = len(SEQUENCES) * evaluator.panel.length
    for block in (0, 1):
        scores = block_scores(evaluator, block)
        if statistic == "outlier_ratio":
            wanted = (scores > 3 * scores.mean()).mean()
        else:
            wanted = np.sort(scores)[(len(scores) - 1) // 2] / np.sqrt(rows)
        own = [value for value, site in zip(table, sites_of(evaluator), strict=True) if site.block == block]
        np.testing.assert_allclose(own, wanted, rtol=1e-6)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_fluctuation_removes_the_steadiest_channels(family, evaluator_for):
    evaluator = evaluator_for(family, double=True, batch_size=3)
    table = measure(evaluator, "fluctuation", SEQUENCES, {})
    seen, scores = site_inputs(evaluator), {}
    for site in sites_of(evaluator):
        metric = seen[site.name].var(axis=0) * (weight_of(evaluator, site).numpy() ** 2).sum(axis=0)
        scores[site.name] = (metric - metric.mean()) / metric.std()
    least = min(row.min() for row in scores.values())
    for row, site in zip(table, sites_of(evaluator), strict=True):
        ordered = np.repeat(np.sort(scores[site.name] - least), site.shape[0])
        counts = [int(np.ceil(share * site.size - 1e-9)) for share in (0, 0.3, 0.6, 0.9)]
        np.testing.assert_allclose(row, [ordered[:count].sum() for count in counts], rtol=1e-6)


def test_moments_count_the_rows_that_come_whatever_their_shape():
    moments = Moments(torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    assert (moments.root_mean_square == 0).all() and (moments.variance == 0).all()
    add = _adder(moments)
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(10, 3)))
    add(None, (rows[:6].view(2, 3, 3),), {}, None)
    add(None, (), {"input": rows[6:]}, None)
    add(None, (rows[:0],), {}, None)
    assert moments.rows == 10
    np.testing.assert_allclose(moments.root_mean_square, np.sqrt((rows.numpy() ** 2).mean(axis=0)))
    np.testing.assert_allclose(moments.variance, rows.numpy().var(axis=0))


def block_states(evaluator):
    """(input, output) of both blocks, float64 `[sequences, tokens, width]`."""
    with torch.no_grad():
        found = evaluator.model.module(input_ids=ids(evaluator), output_hidden_states=True).hidden_states
        last = evaluator.runner.run({"input_ids": ids(evaluator)}, capture=[1]).states[1]
    return [(found[0], found[1]), (found[1], last if isinstance(last, torch.Tensor) else last[0])]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_change_of_a_block(family, evaluator_for):
    evaluator = evaluator_for(family, double=True, batch_size=3)
    tables = {name: measure(evaluator, name, SEQUENCES, {}) for name in TEXT if name.startswith(("block", "angular"))}
    for block, (x, y) in enumerate(block_states(evaluator)):
        x, y = x.numpy(), y.numpy()
        cosines = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
        whole = [(a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()) for a, b in zip(x, y, strict=True)]
        wanted = {
            "block_influence": 1 - cosines.mean(),
            "angular_distance": (np.arccos(cosines) / np.pi).mean(),
            "block_change": 1 - np.mean(whole),
        }
        assert tables.keys() == wanted.keys()
        for index, site in enumerate(sites_of(evaluator)):
            if site.block == block:
                for name, value in wanted.items():
                    assert tables[name][index] == pytest.approx(value, rel=1e-6)


def test_cosines_stay_within_their_range():
    x = torch.tensor([[1e-30, 0], [0, 0], [3.0, 4.0]])
    np.testing.assert_allclose(cosine(x, torch.tensor([[-2e-30, 0], [1, 0], [3.0, 4.0]])), [-1, 1, 1])


def test_a_site_behind_the_blocks_gets_their_mean(evaluator_for):
    evaluator = evaluator_for("llama", targets=("*", "lm_head"))
    table = measure(evaluator, "block_influence", SEQUENCES, {})
    blocks = sorted(set(table[:-1]))
    assert sites_of(evaluator)[-1].name == "lm_head"
    assert len(blocks) == 2
    assert table[-1] == pytest.approx(np.mean(blocks))


def gradients(evaluator):
    """Gradient of each sequence's cross-entropy by each site's weight, by the model's own loss and autograd."""
    module = evaluator.model.module
    weights = [module.get_submodule(site.module).weight for site in sites_of(evaluator)]
    for weight in weights:
        weight.requires_grad_()
    found = []
    for row in ids(evaluator):
        loss = module(input_ids=row[None], labels=row[None]).loss
        found.append(torch.autograd.grad(loss, weights))
    for weight in weights:
        weight.requires_grad_(False)
    return found


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_taylor_adds_up_the_lowest_products_of_gradient_and_weight(family, evaluator_for):
    evaluator = evaluator_for(family, double=True, batch_size=3)
    table = measure(evaluator, "taylor", SEQUENCES, {})
    found = gradients(evaluator)
    for index, (row, site) in enumerate(zip(table, sites_of(evaluator), strict=True)):
        weight = evaluator.model.module.get_submodule(site.module).weight.detach()
        products = (torch.stack([sequence[index] for sequence in found]).mean(dim=0) * weight).abs().flatten()
        ordered = np.sort(products.numpy())
        wanted = [ordered[: int(np.ceil(share * site.size - 1e-9))].sum() for share in (0, 0.3, 0.6, 0.9)]
        np.testing.assert_allclose(row, wanted, rtol=2e-3, atol=1e-9)


def test_relevance_is_activation_times_gradient(evaluator_for):
    evaluator = evaluator_for("llama", double=True, batch_size=3)
    table = measure(evaluator, "relevance", SEQUENCES, {})
    module = evaluator.model.module
    totals = np.zeros(len(table))
    for row in ids(evaluator):
        outputs = {}

        def keep(_module, _args, output, outputs):
            outputs[_module] = output
            output.retain_grad()

        parts = [module.get_submodule(site.module) for site in sites_of(evaluator)]
        handles = [
            part.register_forward_hook(lambda m, a, o, outputs=outputs: keep(m, a, o, outputs)) for part in parts
        ]
        embeddings = module.get_input_embeddings()(row[None]).detach().requires_grad_()
        module(inputs_embeds=embeddings, labels=row[None]).loss.backward()
        for handle in handles:
            handle.remove()
        totals += [float((outputs[part].detach() * outputs[part].grad).abs().sum()) for part in parts]
    np.testing.assert_allclose(table, totals / len(SEQUENCES), rtol=1e-4)


def test_zeroth_order_is_the_slope_along_the_draw(evaluator_for):
    evaluator = evaluator_for("llama", double=True, batch_size=3)
    before = {name: value.clone() for name, value in evaluator.model.module.state_dict().items()}
    table = measure(evaluator, "zeroth_order", SEQUENCES, PARAMETERS["zeroth_order"], seed=7)
    after = evaluator.model.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    slopes = np.zeros((len(SEQUENCES), 2))
    for number, sequence in enumerate(gradients(evaluator)):
        for index, (site, gradient) in enumerate(zip(sites_of(evaluator), sequence, strict=True)):
            generator = torch.Generator().manual_seed(spawn_integer(7, "direction", index))
            slopes[number, site.block] += float((gradient * torch.randn(site.shape, generator=generator)).sum())
    wanted = np.abs(slopes).mean(axis=0)
    # Llama normalises in float32, whose rounding the small step magnifies.
    np.testing.assert_allclose(table, [wanted[site.block] for site in sites_of(evaluator)], rtol=0.05)


@pytest.mark.parametrize("family", ["bert", "mixtral", "gpt_neox", "phi3", "llama_tied"])
@pytest.mark.parametrize("statistic", TEXT)
def test_any_family_gives_numbers_and_keeps_its_weights(family, statistic, evaluator_for):
    evaluator = evaluator_for(family, ("hidden" if family == "bert" else "kl",))
    space = evaluator.switcher.supernet.space
    before = {name: value.clone() for name, value in evaluator.model.module.state_dict().items()}
    found = measure(evaluator, statistic, SEQUENCES, PARAMETERS.get(statistic, {}))
    assert found.shape == STATISTICS[statistic].shape(space)
    assert found.dtype == np.float64
    assert found.max() > 0
    assert all(torch.equal(before[name], value) for name, value in evaluator.model.module.state_dict().items())
    assert not any(parameter.requires_grad for parameter in evaluator.model.module.parameters())


@pytest.mark.parametrize("statistic", list(STATISTICS))
def test_what_is_charged_is_what_is_announced_at_most(statistic, evaluator_for):
    evaluator = evaluator_for("llama")
    parameters = {"tail": 0.5, "threshold": 1, "p": 0.5, "q": 1, "eta": 0, "multiple": 5, "eps": 1e-3}
    spent, known = evaluator.spent, STATISTICS[statistic]
    passes = known.passes(evaluator.switcher.supernet.space)
    sequences = SEQUENCES if passes else ()
    measure(evaluator, statistic, sequences, parameters)
    announced = passes * len(sequences) * evaluator.panel.length
    charged = spent.forward_tokens + 2 * spent.backward_tokens
    assert charged + spent.reused_tokens == pytest.approx(announced)


@pytest.mark.parametrize("statistic", TEXT)
def test_batches_change_nothing(statistic, evaluator_for):
    whole, split = (evaluator_for("llama", double=True, batch_size=size) for size in (6, 2))
    one, two = (measure(evaluator, statistic, SEQUENCES, PARAMETERS.get(statistic, {})) for evaluator in (whole, split))
    np.testing.assert_allclose(one, two, rtol=0.02 if statistic == "zeroth_order" else 1e-4)
