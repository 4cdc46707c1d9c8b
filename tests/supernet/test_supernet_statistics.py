import torch

from sparsearch.model.load import wrap_model
from sparsearch.model.sites import find_sites
from sparsearch.supernet.statistics import StatisticsCollector


def test_gram_is_that_of_the_tensors_that_the_linear_layers_really_see(tiny_model):
    model = wrap_model(tiny_model("llama"))
    sites = find_sites(model)
    seen: dict[str, list[torch.Tensor]] = {site.name: [] for site in sites}
    for site in sites:
        module = model.module.get_submodule(site.module)
        module.register_forward_hook(lambda _m, args, _o, name=site.name: seen[name].append(args[0].double()))
    collector = StatisticsCollector(model, sites, gram=True)
    for seed in range(3):
        ids = torch.randint(0, 2048, (2, 8), generator=torch.Generator().manual_seed(seed))
        with collector.batch(), torch.no_grad():
            model.module(input_ids=ids)
    for site in sites:
        tokens = torch.cat([part.reshape(-1, part.shape[-1]) for part in seen[site.name]])
        found = collector.of(site)
        assert found.tokens == len(tokens) == 48
        torch.testing.assert_close(found.gram.double(), tokens.T @ tokens, rtol=1e-4, atol=1e-4)


def test_sites_with_the_same_input_share_statistics_and_others_do_not(tiny_model):
    model = wrap_model(tiny_model("llama"))
    sites = {site.kind: site for site in find_sites(model) if site.block == 0}
    collector = StatisticsCollector(model, list(sites.values()), gram=True)
    with collector.batch(), torch.no_grad():
        model.module(input_ids=torch.arange(16)[None])
    of = {kind: collector.of(site) for kind, site in sites.items()}
    assert of["self_attn.q_proj"] is of["self_attn.k_proj"] is of["self_attn.v_proj"]
    assert of["mlp.gate_proj"] is of["mlp.up_proj"]
    assert len({id(statistics) for statistics in of.values()}) == 4


def test_a_site_that_no_token_reaches_has_empty_statistics(tiny_model):
    model = wrap_model(tiny_model("llama"))
    site = find_sites(model)[0]
    found = StatisticsCollector(model, [site], gram=True).of(site)
    assert found.tokens == 0 and not found.gram.any()
