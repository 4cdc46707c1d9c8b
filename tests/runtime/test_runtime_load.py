import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sparsearch.errors import ResourceError
from sparsearch.export.runtime import export_runtime
from sparsearch.hardware import native
from sparsearch.model.load import wrap_model
from sparsearch.model.sites import find_sites, site_weight
from sparsearch.runtime import PackedLinear, load
from sparsearch.space import Profile

FAMILIES = ("llama", "gpt2", "opt", "qwen3", "gemma2", "phi3", "gpt_neox", "mixtral", "bert", "vit")
needs_native = pytest.mark.skipif(native.unavailable() is not None, reason=str(native.unavailable()))


@dataclass
class Exported:
    """A folder, and the pruned model in memory that it should equal."""

    folder: Path
    module: torch.nn.Module


@pytest.fixture
def export(tiny_model, tmp_path):
    """Exports a family whose weights, rounded to `storage`, are pruned by magnitude, each to its own sparsity."""

    def make(family, most=0.9, storage=torch.bfloat16):
        module = tiny_model(family).to(storage).float()
        model = wrap_model(module, family, storage)
        weights, sites = [], []
        for number, site in enumerate(find_sites(model)):
            weight = site_weight(module, site).contiguous().clone()
            count = int(site.size * most * (number % 4) / 3)
            weight.view(-1)[weight.abs().flatten().argsort()[:count]] = -0.0
            site_weight(module, site).copy_(weight)
            weights.append((site, weight))
            sites.append({
                "name": site.name, "kind": site.kind, "block": site.block, "shape": list(site.shape),
                "level": "dense" if count == 0 else "0.5", "sparsity": count / site.size,
            })  # fmt: skip
        profile = Profile(tuple(sites), {"sparsity": "0.3"}, {})
        export_runtime(model, weights, tmp_path / family, profile=profile, card="card\n", config_yaml="seed: 0\n")
        return Exported(tmp_path / family, module)

    return make


def inputs(family):
    generator = torch.Generator().manual_seed(3)
    if family == "vit":
        return {"pixel_values": torch.randn(2, 3, 16, 16, generator=generator)}
    return {"input_ids": torch.randint(0, 2048, (2, 17), generator=generator)}


def outputs(module, family):
    with torch.no_grad():
        found = module(**inputs(family))
    return found.logits if "logits" in found else found.last_hidden_state


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_computes_what_the_pruned_model_does(export, family):
    exported = export(family)
    module = load(exported.folder)
    wanted, found = outputs(exported.module, family), outputs(module, family)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max() + 1e-6
    packed = {name for name, linear in module.named_modules() if isinstance(linear, PackedLinear)}
    assert packed >= {site.module for site in find_sites(wrap_model(exported.module))}


def test_generate_gives_the_same_tokens(export):
    exported = export("llama")
    module = load(exported.folder)
    prompt = inputs("llama")["input_ids"][:, :5]
    wanted = exported.module.generate(prompt, max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert torch.equal(module.generate(prompt, max_new_tokens=12, do_sample=False, pad_token_id=0), wanted)


def test_tied_embeddings_stay_one_tensor_where_the_head_is_not_packed(export):
    module = load(export("gpt2", storage=torch.float32).folder)
    assert module.lm_head.weight is module.transformer.wte.weight


@needs_native
@pytest.mark.parametrize("storage", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_the_head_is_packed_in_the_type_of_the_checkpoint(export, family, storage):
    exported = export(family, storage=storage)
    module = load(exported.folder)
    head = module.get_output_embeddings()
    assert [form.backend.stored for form in head.forms] == [storage]
    assert torch.equal(head.unpacked().float(), exported.module.get_output_embeddings().weight)
    assert torch.equal(module.get_input_embeddings().weight, exported.module.get_input_embeddings().weight)
    wanted, found = outputs(exported.module, family), outputs(module, family)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max() + 1e-6


@needs_native
def test_tying_the_weights_again_leaves_a_packed_head_alone(export):
    module = load(export("gpt2", storage=torch.bfloat16).folder)
    head, before = module.get_output_embeddings(), outputs(module, "gpt2")
    module.tie_weights()
    assert module.get_output_embeddings() is head
    assert torch.equal(outputs(module, "gpt2"), before)


@needs_native
def test_weights_of_a_float16_checkpoint_keep_its_16_bits(export):
    module = load(export("llama", storage=torch.float16).folder)
    assert {m.forms[0].backend.stored for m in module.modules() if isinstance(m, PackedLinear)} == {torch.float16}


def test_what_no_kernel_copies_lies_in_the_mapped_file(export):
    """Storage that torch has mapped from a file is named in the maps of the process."""
    exported = export("llama")
    module = load(exported.folder)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("no /proc")
    ranges = [
        tuple(int(edge, 16) for edge in line.split()[0].split("-"))
        for line in maps.read_text().splitlines()
        if line.endswith(f"{exported.folder}/state.safetensors")
    ]
    for tensor in module.model.embed_tokens.weight, module.model.layers[0].input_layernorm.weight:
        assert any(low <= tensor.data_ptr() < high for low, high in ranges)


@needs_native
def test_packed_weights_are_smaller_than_dense_ones(export):
    exported = export("llama")
    module = load(exported.folder)
    for name, linear in module.named_modules():
        if isinstance(linear, PackedLinear):
            weight = exported.module.get_submodule(name).weight
            bound = weight.numel() / 8 + 2 * int((weight != 0).sum()) + 8 * weight.shape[0] + 64
            assert linear.packed_bytes <= bound < 4 * weight.numel()


@needs_native
def test_a_machine_without_the_kernels_runs_dense_and_says_so(export, monkeypatch):
    exported = export("llama")
    monkeypatch.setattr(native, "unavailable", lambda: "not built here")
    with pytest.warns(RuntimeWarning, match=r"\d+ of 15 weights are packed for kernels .*not built here.*run dense"):
        module = load(exported.folder)
    wanted = outputs(exported.module, "llama")
    assert (outputs(module, "llama") - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert {form.backend.name for m in module.modules() if isinstance(m, PackedLinear) for form in m.forms} <= {
        "dense",
        "torch_csr",
    }


def test_without_the_kernels_an_export_takes_what_there_is(export, monkeypatch):
    monkeypatch.setattr(native, "unavailable", lambda: "not built here")
    exported = export("llama")
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module = load(exported.folder)
    backends = {m.forms[0].backend.name for m in module.modules() if isinstance(m, PackedLinear)}
    assert backends == {"dense", "torch_csr"}
    wanted = outputs(exported.module, "llama")
    assert (outputs(module, "llama") - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_gradients_are_refused(export):
    module = load(export("llama").folder)
    linear = module.model.layers[0].mlp.up_proj
    with pytest.raises(RuntimeError, match="no gradients"):
        linear(torch.randn(1, linear.in_features, requires_grad=True))
    assert linear(torch.empty(0, linear.in_features)).shape == (0, linear.out_features)
    assert (linear.weight.shape, linear.weight.device.type) == ((linear.out_features, linear.in_features), "meta")


def test_a_folder_that_is_none_is_named(tmp_path):
    with pytest.raises(ResourceError, match=r"no runtime folder .*--layout runtime"):
        load(tmp_path)


def edit(path, change):
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(version=2), r"version"),
        (lambda index: index.update(auto_class="os"), r"auto_class"),
        (lambda index: index["linears"][0].update(module="os.path"), r"no layer os\.path"),
        (lambda index: index["linears"][0].update(shape=[1, 1]), r"damaged"),
        (lambda index: index["linears"][0].update(shape=[-1, 1]), r"linears\.0\.shape"),
        (lambda index: index["linears"][0]["forms"][0].update(backend="scipy_csr"), r"no kernel 'scipy_csr'"),
        (lambda index: index["linears"][0]["forms"][0].update(tensors={}), r"is damaged, export it again"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(export, change, message):
    folder = export("llama").folder
    edit(folder / "runtime.json", change)
    with pytest.raises(ResourceError, match=message):
        load(folder)


def test_damaged_files_are_named(export):
    folder = export("llama").folder
    state = {name: tensor.clone() for name, tensor in load_file(folder / "state.safetensors").items()}
    del state["model.norm.weight"]
    save_file(state, folder / "state.safetensors")
    with pytest.raises(ResourceError, match=r"state\.safetensors: model\.norm\.weight is missing"):
        load(folder)
    data = (folder / "packed.safetensors").read_bytes()
    (folder / "packed.safetensors").write_bytes(data[:-100])
    with pytest.raises(ResourceError, match=re.escape(f"{folder / 'packed.safetensors'} is missing or damaged")):
        load(folder)
