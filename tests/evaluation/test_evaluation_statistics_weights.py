"""Statistics of the weights alone, against the formulas as the papers write them, in numpy and float64."""

import numpy as np
import pytest
import torch
from transformers.pytorch_utils import Conv1D

from sparsearch.errors import ResourceError
from sparsearch.evaluation.statistics import FORMULAS, measure
from sparsearch.evaluation.statistics.magnitude import lamp_scores
from sparsearch.evaluation.statistics.pq_index import retained_share
from sparsearch.evaluation.statistics.removal import removal_costs
from sparsearch.evaluation.statistics.tail_exponent import LIGHTEST, hill_exponent, spectrum
from sparsearch.space import level_grid
from sparsearch.space.statistics import STATISTICS


def dense_weights(evaluator):
    """Per site `[out, in]`, float64, read from the module itself."""
    weights = {}
    for site in evaluator.switcher.supernet.space.sites:
        module = evaluator.model.module.get_submodule(site.module)
        weight = module.weight.detach().double().numpy()
        weights[site.name] = weight.T if isinstance(module, Conv1D) else weight
    return weights


def block_weights(evaluator, block):
    sites = evaluator.switcher.supernet.space.sites
    weights = dense_weights(evaluator)
    return np.concatenate([weights[site.name].ravel() for site in sites if site.block == block])


def random_weight(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_every_known_statistic_has_a_formula():
    assert list(FORMULAS) == list(STATISTICS)


def test_removal_costs_are_sums_of_the_lowest_scores():
    scores = random_weight(6, 8).abs()
    levels = level_grid([0.1, 0.5, "2:4", "1:8", 1.0])
    found = dict(zip([level.label for level in levels], removal_costs(scores, levels), strict=True))
    ordered = np.sort(scores.numpy().ravel())
    assert found["dense"] == 0
    assert found["0.1"] == pytest.approx(ordered[:5].sum())
    assert found["0.5"] == pytest.approx(ordered[:24].sum())
    assert found["1"] == pytest.approx(ordered.sum())
    grouped = sum(np.sort(row[start : start + 4])[:2].sum() for row in scores.numpy() for start in (0, 4))
    assert found["2:4"] == pytest.approx(grouped)
    assert found["1:8"] == pytest.approx(sum(np.sort(row)[:7].sum() for row in scores.numpy()))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_magnitude_adds_up_the_squares_of_the_smallest_weights(family, evaluator_for):
    evaluator = evaluator_for(family)
    table = measure(evaluator, "magnitude", (), {})
    for row, weight in zip(table, dense_weights(evaluator).values(), strict=True):
        ordered = np.sort(weight.ravel() ** 2)
        wanted = [ordered[: int(np.ceil(s * weight.size - 1e-9))].sum() for s in (0, 0.3, 0.6, 0.9)]
        np.testing.assert_allclose(row, wanted, rtol=1e-5)


def test_lamp_scores_are_the_formula_s():
    weight = random_weight(3, 4)
    weight[1, 1] = weight[0, 2]  # of two equal weights the first counts as the smaller one
    flat = weight.numpy().ravel()
    order = sorted(range(12), key=lambda index: (flat[index] ** 2, index))
    for rank, index in enumerate(order):
        wanted = flat[index] ** 2 / sum(flat[other] ** 2 for other in order[rank:])
        assert lamp_scores(weight).numpy().ravel()[index] == pytest.approx(wanted)
    assert (lamp_scores(torch.zeros(2, 3)) == 0).all()


def test_lamp_table_adds_up_the_lowest_scores(evaluator_for):
    evaluator = evaluator_for("llama")
    table = measure(evaluator, "lamp", (), {})
    for row, weight in zip(table, dense_weights(evaluator).values(), strict=True):
        scores = np.sort(lamp_scores(torch.from_numpy(weight)).numpy().ravel())
        np.testing.assert_allclose(row[2], scores[: int(np.ceil(0.6 * weight.size))].sum(), rtol=1e-5)


@pytest.mark.parametrize("exponent", [1.7, 3.0, 6.0])
def test_hill_recovers_the_exponent_of_a_pareto_spectrum(exponent):
    count = 1000
    ranks = (np.arange(count) + 0.5) / count
    eigenvalues = torch.from_numpy((1 - ranks) ** (-1 / (exponent - 1)))
    for tail in (0.2, 0.5, 1.0):
        assert hill_exponent(eigenvalues, tail) == pytest.approx(exponent, rel=0.03)


def test_hill_of_degenerate_spectra_is_a_number():
    assert hill_exponent(torch.ones(10, dtype=torch.float64), 0.5) == LIGHTEST
    assert hill_exponent(torch.ones(1, dtype=torch.float64), 0.5) == LIGHTEST
    assert hill_exponent(torch.zeros(8, dtype=torch.float64), 0.5) == LIGHTEST
    assert 1 < hill_exponent(torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64), 0.5) < LIGHTEST


@pytest.mark.parametrize("shape", [(12, 7), (7, 12)])
def test_spectrum_is_that_of_the_squared_singular_values(shape):
    weight = random_weight(*shape)
    singular = np.linalg.svd(weight.numpy(), compute_uv=False)
    np.testing.assert_allclose(spectrum(weight).numpy(), np.sort(singular**2), rtol=1e-10)


def test_tail_exponent_is_the_mean_of_a_block(evaluator_for):
    evaluator = evaluator_for("llama")
    table = measure(evaluator, "tail_exponent", (), {"tail": 0.5})
    sites = evaluator.switcher.supernet.space.sites
    weights = dense_weights(evaluator)
    for block in (0, 1):
        exponents = []
        for site in (site for site in sites if site.block == block):
            values = np.sort(np.linalg.svd(weights[site.name], compute_uv=False) ** 2)
            half = len(values) // 2
            exponents.append(1 + half / np.log(values[-half:] / values[-half - 1]).sum())
        own = [value for value, site in zip(table, sites, strict=True) if site.block == block]
        np.testing.assert_allclose(own, np.mean(exponents), rtol=1e-4)


def test_z_outliers_are_the_share_of_a_block(evaluator_for):
    evaluator = evaluator_for("gpt2")
    table = measure(evaluator, "z_outliers", (), {"threshold": 1.0})
    for site, value in zip(evaluator.switcher.supernet.space.sites, table, strict=True):
        weights = block_weights(evaluator, site.block)
        assert value == pytest.approx(((weights - weights.mean()) / weights.std() > 1).mean(), abs=1e-6)


@pytest.mark.parametrize(("p", "q", "eta"), [(0.5, 1.0, 0.0), (1.0, 2.0, 0.0), (0.5, 1.0, 0.3)])
def test_pq_share_is_the_formula_s(p, q, eta):
    weight = random_weight(5, 7)
    size = np.abs(weight.numpy().ravel())
    count = size.size
    index = 1 - count ** (1 / q - 1 / p) * (size**p).sum() ** (1 / p) / (size**q).sum() ** (1 / q)
    assert 0 < index < 1
    wanted = (1 + eta) ** (-q / (q - p)) * (1 - index) ** (q * p / (q - p))
    assert retained_share(weight, p, q, eta) == pytest.approx(wanted)


def test_pq_share_of_extremes():
    one = torch.zeros(4, 5, dtype=torch.float64)
    assert retained_share(one, 0.5, 1, 0) == 0
    one[2, 3] = -7.0
    assert retained_share(one, 0.5, 1, 0) == pytest.approx(1 / 20)
    assert retained_share(torch.full((4, 5), 1e-30), 0.5, 1, 0) == pytest.approx(1)


def test_pq_table_has_a_share_of_each_site(evaluator_for):
    evaluator = evaluator_for("llama")
    table = measure(evaluator, "pq_retained", (), {"p": 0.5, "q": 1.0, "eta": 0.0})
    weights = dense_weights(evaluator).values()
    np.testing.assert_allclose(table, [retained_share(torch.from_numpy(w), 0.5, 1, 0) for w in weights], rtol=1e-5)


def test_the_dense_model_is_measured_whatever_is_in_place(evaluator_for):
    evaluator = evaluator_for("llama")
    dense = measure(evaluator, "magnitude", (), {})
    evaluator.switcher.switch(evaluator.switcher.supernet.space.sparsest())
    np.testing.assert_array_equal(measure(evaluator, "magnitude", (), {}), dense)


def test_what_is_no_number_is_refused_by_name(evaluator_for, monkeypatch):
    evaluator = evaluator_for("llama")
    broken = np.ones(len(evaluator.switcher.supernet.space))
    broken[3] = np.nan
    monkeypatch.setitem(FORMULAS, "lamp", lambda measurement: broken)
    with pytest.raises(ResourceError, match=r"statistic lamp is NaN or Inf at model\.layers\.0\.self_attn\.o_proj"):
        measure(evaluator, "lamp", (), {})
