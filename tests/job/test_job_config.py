import pytest
import yaml

from sparsearch.errors import ConfigError
from sparsearch.job.config import (
    config_difference,
    dump_config,
    identity,
    load_config,
    parse_config,
    with_overrides,
)
from sparsearch.space import Budget

MINIMAL = {"budget": {"sparsity": 0.6}}
FULL = """
model: {name: Qwen/Qwen3-0.6B, dtype: bfloat16, revision: "123"}
space: {levels: [2:4, 0.5, dense, 1:4], pruner: {name: sparsegpt, block_size: 64}, targets: ["*.mlp"]}
objective: {objective: hidden, panel: {length: 64, search: 8}}
data: {files: [texts/a.txt, /b.txt]}
budget: {params: 0.7x, sparsity: 50%, bytes: 4GiB}
searcher: {name: evopress, offspring: 16, generations: 400, rate: 1e-3}
supernet: nets/one
run: {dir: out/a, time_limit: 1h30m, workers: 2}
seed: 7
"""


@pytest.fixture
def job(tmp_path):
    def write(text, name="job.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_defaults(job, tmp_path):
    config = load_config(job("budget: {sparsity: 0.6}\n", "mine.yaml"))
    assert config.model.name is None
    assert config.space.pruner.name == "sparsegpt"
    assert len(config.space.grid) == 19
    assert config.objective.objective == "kl"
    assert config.data.spec == "builtin"
    assert config.searcher.name == "quadratic"
    assert config.searcher.options == {}
    assert config.run.dir == tmp_path / "runs" / "mine"
    assert config.seed == 0


def test_every_field_is_read(job, tmp_path):
    config = load_config(job(FULL))
    assert config.model.name == "Qwen/Qwen3-0.6B"
    assert config.model.revision == "123"
    assert [level.label for level in config.space.grid] == ["dense", "0.5", "2:4", "1:4"]
    assert config.space.pruner.options == {"block_size": 64}
    assert config.objective.panel.length == 64
    assert (config.objective.panel.calibration, config.objective.panel.search) == (128, 8)
    assert config.data.spec == {"files": [str(tmp_path / "texts/a.txt"), "/b.txt"]}
    assert config.searcher.options == {"offspring": 16, "generations": 400, "rate": 0.001}
    assert config.supernet == tmp_path / "nets" / "one"
    assert config.run.dir == tmp_path / "out" / "a"
    assert config.run.time_limit == 5400
    assert config.limits.amounts["bytes"].value == 4 * 2**30


@pytest.mark.parametrize(
    "text", [FULL, "budget: {sparsity: 0.6}", "data: {dataset: a/b, subset: x}\nbudget: {flops: 0.5x}"]
)
def test_a_dumped_config_loads_as_the_same(job, text):
    config = load_config(job(text))
    dumped = dump_config(config)
    again = load_config(job(dumped, "other.yaml"))
    assert again == config
    assert dump_config(again) == dumped
    assert yaml.safe_load(dumped)["space"]["pruner"]["name"] == "sparsegpt"


def test_key_order_does_not_change_the_dump(job):
    lines = FULL.strip().splitlines()
    assert dump_config(load_config(job("\n".join(lines[::-1])))) == dump_config(load_config(job(FULL)))


def test_bare_names_and_empty_sections():
    config = parse_config(MINIMAL | {"model": "gpt2", "searcher": "random", "space": None, "run": None})
    assert config.model.name == "gpt2"
    assert config.searcher.name == "random"
    assert config.space.levels[0] == 0.1


def test_a_local_model_or_data_set_is_found_beside_the_job_file(job, tmp_path):
    (tmp_path / "model").mkdir()
    text = "model: model\nbudget: {sparsity: 0.5}\ndata: {dataset: ./set}\n"
    config = load_config(job(text))
    assert config.model.name == str(tmp_path / "model")
    assert config.data.dataset == str(tmp_path / "set")
    assert load_config(job(text.replace("model: model", "model: org/model"))).model.name == "org/model"


def test_ranges_of_levels_are_exact():
    space = {"levels": {"start": 0.3, "stop": 0.9, "step": 0.1}}
    assert parse_config(MINIMAL | {"space": space}).space.levels == (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    space = {"levels": {"start": 0, "stop": 1, "step": 0.3}}
    assert parse_config(MINIMAL | {"space": space}).space.levels == (0.3, 0.6, 0.9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"budget": {"sparsty": 0.6}},
            "budget.sparsty: unknown key; allowed: bytes, flops, hardware, latency, params, sparsity, "
            "tokens (did you mean 'sparsity'?)",
        ),
        (
            {"budget": {"sparsity": 1.5}},
            "budget.sparsity: 1.5 is not a sparsity; allowed: 0 up to, not including, 1 (0.6 or 60%)",
        ),
        ({"budget": {"bytes": "4QB"}}, "budget.bytes: unit 'QB' is unknown; allowed: "),
        ({"budget": {"bytes": True}}, "budget.bytes: True is not an amount; allowed: "),
        ({"budget": {}}, "budget is empty; give at least one bound, for example sparsity: 0.6"),
        ({"budget": 0.6}, "budget: found 0.6; allowed: a mapping, for example {sparsity: 0.6}"),
        (
            {"serch": 1},
            "serch: unknown key; allowed: budget, data, model, objective, run, searcher, seed, space, "
            "supernet, warm_start (did you mean 'searcher'?)",
        ),
        (
            {"objective": {"panel": {"serch": 3}}},
            "objective.panel.serch: unknown key; allowed: calibration, heldout, length, search, seed (did"
            " you mean 'search'?)",
        ),
        (
            {"objective": "kll"},
            "objective: 'kll' is no preset of objectives; allowed: hidden, kl, perplexity, trace (did you mean "
            "'kl'?); or give the path of a YAML file",
        ),
        (
            {"objective": {"objective": "kll"}},
            "objective.objective: found 'kll'; allowed: hidden, kl, perplexity, trace (did you mean 'kl'?)",
        ),
        (
            {"objective": {"panel": {"search": 0}}},
            "objective.panel.search: found 0; allowed: a whole number of 1 or more",
        ),
        (
            {"objective": {"panel": {"search": 2.0}}},
            "objective.panel.search: found 2.0; allowed: a whole number",
        ),
        (
            {"model": {"dtype": "bf16"}},
            "model.dtype: found 'bf16'; allowed: auto, bfloat16, float16, float32",
        ),
        (
            {"model": {"name": 3}},
            "model.name: found 3; allowed: text (put it in quotes if it looks like a number)",
        ),
        ({"model": []}, "model: found []; allowed: a mapping (key: value)"),
        (
            {"model": {"trust_remote_code": "yes"}},
            "model.trust_remote_code: found 'yes'; allowed: true or false",
        ),
        ({"seed": -1}, "seed: found -1; allowed: a whole number of 0 or more"),
        ({"seed": True}, "seed: found True; allowed: a whole number"),
        ({"seed": "x"}, "seed: found 'x'; allowed: a whole number"),
        ({"run": {"state_cache": "5 apples"}}, "run.state_cache: found '5 apples'; allowed: 512MiB, 2GB or a number"),
        ({"run": {"time_limit": "5x"}}, "run.time_limit: found '5x'; allowed: 90s, 15m, 2h, 1h30m, 1d"),
        ({"run": {"dir": ""}}, "run.dir: found ''; allowed: a path"),
        ({"run": {"dir": 3}}, "run.dir: found 3; allowed: a path"),
        ({"run": []}, "run: found []; allowed: a mapping (key: value)"),
        ({"searcher": {"generations": 3}}, "searcher.name: missing; add it"),
        ({"searcher": 3}, "searcher: found 3; allowed: a mapping (key: value)"),
        (
            {"space": {"levels": [1.5]}},
            'space.levels: 1.5 is no level; allowed: a sparsity from 0 to 1 (0.55), N:M with N < M ("2:4"), or dense',
        ),
        ({"space": {"levels": [0.5, "0.50"]}}, "space.levels: 0.5 is listed twice; list each level once"),
        (
            {"space": {"levels": 0.5}},
            "space.levels: found 0.5; allowed: a list ([0.5, '2:4']) or a range {start, stop, step}",
        ),
        (
            {"space": {"levels": {"start": 0, "stp": 1}}},
            "space.levels: found a range of start, stp; 'stp' is unknown; allowed: start, step, stop",
        ),
        (
            {"space": {"levels": {"start": 0, "stop": 1, "step": 0}}},
            "space.levels: found {'start': 0, 'stop': 1, 'step': 0}; allowed: 0 <= start <= stop <= 1 and"
            " a step above 0",
        ),
        (
            {"space": {"levels": {"start": 0, "stop": 1, "step": 1e-09}}},
            "space.levels: found 1000000001 levels; allowed: at most 254 besides dense",
        ),
        ({"space": {"targets": "*"}}, "space.targets: found '*'; allowed: a list, for example [a, b]"),
        (
            {"space": {"propagation": "allocation"}},
            "space.profile: missing; propagation: allocation needs the path of a profile",
        ),
        (
            {"space": {"profile": "p.json"}},
            "space.profile: found with propagation: dense; allowed only with propagation: allocation",
        ),
        (
            {"space": {"propagation": "dens"}},
            "space.propagation: found 'dens'; allowed: allocation, dense, uniform (did you mean 'dense'?)",
        ),
        ({"space": {"pruner": {"block_size": 3}}}, "space.pruner.name: missing; add it"),
        (
            {"data": "wiki"},
            "data: found 'wiki'; allowed: builtin, or a mapping with files, dataset or tokens",
        ),
        (
            {"data": {"fils": ["a"]}},
            "data.fils: unknown key; allowed: column, dataset, files, split, subset, tokens (did you mean 'files'?)",
        ),
        (
            {"data": {"files": ["a"], "tokens": "b"}},
            "data: found files and tokens; allowed: builtin, or exactly one of files, dataset and tokens",
        ),
        ({"data": {"split": "train"}}, "data: found none of them; allowed: "),
        (
            {"data": {"files": ["a"], "split": "train"}},
            "data: found split with files; allowed only with dataset",
        ),
        ({"data": {"files": []}}, "data.files: found []; allowed: a list that is not empty"),
        ({"data": {"files": "a.txt"}}, "data.files: found '"),
    ],
)
def test_mistakes_are_told_with_the_field_what_was_found_and_what_is_allowed(change, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(MINIMAL | change, "job.yaml")
    assert str(caught.value).startswith(f"job.yaml: {message}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_budget_is_told_with_an_example():
    with pytest.raises(ConfigError, match=r"^job\.yaml: budget is empty; .* sparsity: 0\.6$"):
        parse_config({"seed": 1})


def test_several_mistakes_get_a_line_each():
    job = {"budget": {"sparsty": 1, "bytes": "x"}, "seed": -1, "run": {"workers": 0}}
    with pytest.raises(ConfigError) as caught:
        parse_config(job, "a/job.yaml")
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "budget.sparsty",
        "budget.bytes",
        "run.workers",
        "seed",
    ]
    assert all(line.startswith("a/job.yaml: ") for line in lines)


def test_a_config_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        parse_config(MINIMAL).seed = 3


def test_overrides_reach_into_presets_and_bare_names():
    mapping = {"space": "nm", "searcher": "evopress", "model": "gpt2", "budget": {"sparsity": 0.5}}
    overrides = ["searcher.generations=50", "searcher.tokens=[1, 2]", "space.propagation=uniform", "seed=3"]
    overrides += [
        "model.dtype=float32",
        "objective.panel.search=16",
        "budget.sparsity=0.4",
        "run.time_limit=2h",
    ]
    config = parse_config(with_overrides(mapping, overrides))
    assert config.searcher.options == {"generations": 50, "tokens": [1, 2]}
    assert (config.space.propagation, config.space.levels) == ("uniform", ("3:4", "2:4", "1:4"))
    assert (config.model.name, config.model.dtype, config.seed) == ("gpt2", "float32", 3)
    assert config.objective.panel.search == 16
    assert config.limits.sparsity == 0.4
    assert config.run.time_limit == 7200
    assert mapping["searcher"] == "evopress"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("searcher", "-o searcher: not KEY=VALUE; write for example -o searcher.generations=50"),
        ("searcher..x=3", "-o searcher..x=3: not KEY=VALUE"),
        ("seed.x=3", "-o seed.x=3: seed is 0, "),
        ("seed=[1", "-o seed=[1: line 1, column "),
        ("space.levels=3", "job.yaml: space.levels: found 3"),
        ("objective.panel.serch=3", "job.yaml: objective.panel.serch: unknown key"),
    ],
)
def test_bad_overrides_are_told(override, message):
    with pytest.raises(ConfigError) as caught:
        parse_config(with_overrides(MINIMAL | {"seed": 0}, [override]))
    assert str(caught.value).startswith(message)


def test_paths_in_overrides_start_from_the_current_folder(job, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    config = load_config(job("budget: {sparsity: 0.5}\nsupernet: net\n"), ["run.dir=out"])
    assert config.run.dir == here / "out"
    assert config.supernet == tmp_path / "net"


def test_identity_leaves_out_what_does_not_change_the_result(job):
    config = load_config(job(FULL))
    same = ["model.device=cpu", "run.dir=elsewhere", "run.time_limit=5s", "run.workers=1", "supernet=other",
            "run.state_cache=1MiB", "run.variant_cache=1MiB",
            "budget.sparsity=0.5", "budget.params=70%", "space.levels=[0.50, '1:4', '2:4']"]  # fmt: skip
    assert identity(load_config(job(FULL), same)) == identity(config)
    for override in (
        "seed=8",
        "searcher.offspring=8",
        "model.dtype=float32",
        "budget.sparsity=0.5000001",
        "data=builtin",
    ):
        assert identity(load_config(job(FULL), [override])) != identity(config)


def test_differences_name_field_and_both_values(job):
    config = load_config(job(FULL))
    other = load_config(
        job(FULL), ["searcher.generations=50", "searcher.rate=0.001", "model.device=cpu", "searcher.new=1"]
    )
    assert config_difference(config, config) == []
    assert config_difference(config, other) == [
        "searcher.generations: 400 in the run folder, 50 in job.yaml",
        "searcher.new: not set in the run folder, 1 in job.yaml",
    ]
    [line] = config_difference(config, load_config(job(FULL), ["space.levels=[2:4]"]), "mine.yaml")
    assert line == "space.levels: [0.5, '2:4', '1:4'] in the run folder, ['2:4'] in mine.yaml"


def test_the_budget_of_a_job_is_one_of_the_space():
    limits = parse_config(MINIMAL).limits
    assert isinstance(limits, Budget)
    assert limits.sparsity == 0.6
