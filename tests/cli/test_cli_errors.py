"""Bad input: one line that says what was found and what is allowed, the right exit code, nothing changed."""

import pytest
import tiny_jobs
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from sparsearch.job.lock import RunLock
from sparsearch.reference import reference_path


def panel(**changes):
    return {"objective": "kl", "panel": tiny_jobs.PANEL | changes}


BAD = [
    # Unknown names.
    ({"searchr": "evopress"}, 2, ["searchr: unknown key", "did you mean 'searcher'?"]),
    ({"objective": panel(lenght=5)}, 2, ["objective.panel.lenght: unknown key", "did you mean 'length'?"]),
    ({"searcher": "evopres"}, 2, ["searcher.name", "'evopres'", "did you mean 'evopress'?"]),
    ({"searcher": {"name": "evopress", "generation": 3}}, 2, ["searcher.generation", "did you mean 'generations'?"]),
    ({"space": {"levels": [0.5], "pruner": "sparsgpt"}}, 2, ["space.pruner", "did you mean 'sparsegpt'?"]),
    ({"space": {"levels": [0.5], "pruner": {"name": "sparsegpt", "blocks": 3}}}, 2, ["space.pruner", "block_size"]),
    ({"space": "unstructurd"}, 2, ["space", "'unstructurd'", "did you mean 'unstructured'?"]),
    ({"objective": "k"}, 2, ["objective", "'k' is no preset", "kl"]),
    ({"objective": {"objective": "kll"}}, 2, ["objective.objective", "did you mean 'kl'?"]),
    ({"budget": {"sparsty": 0.5}}, 2, ["budget.sparsty: unknown key", "did you mean 'sparsity'?"]),
    # Bad values.
    ({"budget": {"sparsity": 1.5}}, 2, ["budget.sparsity: 1.5", "0 up to, not including, 1"]),
    ({"budget": {"bytes": "4 bananas"}}, 2, ["budget.bytes", "'bananas'"]),
    ({"searcher": {"name": "evopress", "generations": 0}}, 2, ["searcher.generations: 0", "positive integer"]),
    ({"space": {"levels": [0.5, 1.5], "pruner": "wanda"}}, 2, ["space.levels", "1.5"]),
    ({"seed": -1}, 2, ["seed: found -1", "0 or more"]),
    ({"objective": panel(heldout=1)}, 2, ["objective.panel.heldout: found 1", "2 or more"]),
    ({"run": {"dir": "runs/job", "time_limit": "soon"}}, 2, ["run.time_limit", "'soon'", "90s"]),
    # What does not exist or does not fit.
    ({"model": "./nowhere"}, 2, ["model.name", "nowhere", "give an existing checkpoint folder"]),
    ({"model": "."}, 2, ["model.name", "holds no config.json"]),
    ({"data": {"files": ["nothing.txt"]}}, 2, ["data.files", "nothing.txt does not exist"]),
    ({"data": {"files": ["empty.txt"]}}, 2, ["data.files", "empty.txt is empty"]),
    ({"data": {"files": ["short.txt"]}}, 2, ["short.txt is too short", "give more text"]),
    ({"data": {"tokens": "wrong.npy"}}, 2, ["data.tokens", "wrong.npy"]),
    ({"objective": panel(search=4000)}, 2, ["panel: 4008 sequences of 31 tokens", "smaller panels or more text"]),
    ({"objective": panel(heldout=4000)}, 2, ["panel: 4000 sequences of 31 tokens", "heldout half"]),
    ({"objective": panel(length=500)}, 2, ["objective.panel.length: 500 tokens", "takes at most 128"]),
    ({"space": {"levels": [0.5], "targets": ["*convolution*"]}}, 2, ["space.targets", "*convolution*", "allowed: "]),
    ({"space": {"propagation": "allocation", "profile": "none.json"}}, 2, ["space.profile", "does not exist"]),
    ({"model": "encoder"}, 2, ["objective: kl needs a language-modelling head", "encoder", "allowed for it: hidden"]),
    ({"model": {"name": "model", "device": "cuda:77"}}, 5, ["model.device: cuda:77", "use auto or cpu"]),
    # Budgets that nothing can meet.
    ({"budget": {"sparsity": 0.9}}, 4, ["sparsity", "0.9", "0.75"]),
    ({"budget": {"params": "0.1x"}}, 4, ["params", "reachable"]),
    ({"budget": {"bytes": "1KiB"}}, 4, ["bytes", "reachable"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=2048, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(reference_path()).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path, tiny_llama_folder, encoder):
    """A folder with everything that the jobs above name."""
    (tmp_path / "model").symlink_to(tiny_llama_folder)
    (tmp_path / "encoder").symlink_to(encoder)
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "short.txt").write_text("only a few words")
    (tmp_path / "wrong.npy").write_bytes(b"no array")
    return tmp_path


@pytest.mark.parametrize(("changes", "code", "wanted"), BAD, ids=lambda value: str(value)[:60])
def test_bad_input_is_one_line_and_changes_nothing(folder, sparsearch, changes, code, wanted):
    job = tiny_jobs.write_job(folder, "model", **changes)
    before = tiny_jobs.listing(folder)
    for command in ("search", "run"):
        answer = sparsearch(command, job, "--quiet")
        assert answer.code == code, answer.err
        assert answer.out == ""
        assert answer.err.startswith("error: ")
        assert answer.err.count("\n") == 1
        for part in wanted:
            assert part in answer.err
        assert tiny_jobs.listing(folder) == before


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "the file is empty"),
        ("- a\n- b\n", "holds a list, not a mapping"),
        ("budget: {sparsity: 0.5\n", "line 2"),
        ("budget: {sparsity: 0.5}\nbudget: {sparsity: 0.6}\n", "key 'budget' stands twice"),
        ("model: !!python/object/apply:os.system [ls]\n", "is not supported"),
        ("model: reference\n", "budget is empty"),
    ],
)
def test_files_that_are_no_job(tmp_path, sparsearch, text, wanted):
    job = tmp_path / "job.yaml"
    job.write_text(text)
    answer = sparsearch("validate", job)
    assert answer.code == 2
    assert f"error: {job}" in answer.err
    assert wanted in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


def test_several_problems_are_told_at_once(tmp_path, sparsearch):
    job = tiny_jobs.write_job(tmp_path, "model", seed="x", budget={"sparsity": 2}, model={"name": "a", "dtyp": "b"})
    answer = sparsearch("validate", job)
    assert answer.code == 2
    assert len(answer.err.splitlines()) == 3
    for field in ("seed", "budget.sparsity", "model.dtyp"):
        assert f"{job}: {field}" in answer.err


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("generations", "not KEY=VALUE"),
        ("searcher.generations=[", "line 1"),
        ("seed.x=3", "seed is 0, which has no keys"),
        ("searcher.generationz=3", "did you mean 'generations'?"),
    ],
)
def test_bad_overrides(job_file, sparsearch, override, wanted):
    job_file.write_text(job_file.read_text() + "seed: 0\n")
    answer = sparsearch("validate", job_file, "-o", override)
    assert answer.code == 2
    assert wanted in answer.err


@pytest.mark.parametrize("command", ["validate", "plan", "build", "search", "run", "resume"])
def test_a_job_file_that_is_missing(tmp_path, sparsearch, command):
    answer = sparsearch(command, tmp_path / "none.yaml")
    assert answer.code == 2
    assert answer.err == f"error: {tmp_path / 'none.yaml'}: no such file; give the path of a YAML file\n"


def test_a_run_folder_of_another_job_shows_the_difference(finished, sparsearch):
    before = tiny_jobs.listing(finished)
    job_file = finished.parent.parent / "job.yaml"
    for command in ("build", "search", "run"):
        answer = sparsearch(command, job_file, "-o", "budget.sparsity=0.4", "-o", "searcher.offspring=9", "--quiet")
        assert answer.code == 3
        assert f"error: {finished} belongs to another job; choose another run.dir or delete it" in answer.err
        assert "budget.sparsity: 0.5 in the run folder, 0.4 in job.yaml" in answer.err
        assert "searcher.offspring: 5 in the run folder, 9 in job.yaml" in answer.err
        assert "searcher.generations" not in answer.err
    assert tiny_jobs.listing(finished) == before


def test_a_second_writer_is_refused(finished, sparsearch):
    with RunLock(finished):
        before = tiny_jobs.listing(finished)
        for command in ("search", "build"):
            answer = sparsearch(command, finished.parent.parent / "job.yaml", "--quiet")
            assert answer.code == 3
            assert f"error: folder {finished} is in use by process " in answer.err
        assert sparsearch("eval", finished).code == 3
        assert tiny_jobs.listing(finished) == before


def test_a_folder_that_is_no_supernet_is_left_alone(job_file, sparsearch):
    taken = job_file.parent / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    answer = sparsearch("build", job_file, "-o", f"supernet={taken}", "--quiet")
    assert answer.code == 3
    assert f"{taken} is not empty and holds no supernet; choose another supernet folder" in answer.err
    assert [path.name for path in taken.iterdir()] == ["mine.txt"]


def test_a_supernet_of_something_else_is_left_alone(job_file, finished, sparsearch):
    supernet = next(finished.parent.glob("supernets/*"))
    before = tiny_jobs.listing(supernet)
    answer = sparsearch("build", job_file, "-o", f"supernet={supernet}", "-o", "space.levels=[0.5]", "--quiet")
    assert answer.code == 3
    assert f"{supernet} holds a supernet of another " in answer.err
    assert "space" in answer.err
    assert tiny_jobs.listing(supernet) == before


def test_a_disk_that_may_not_be_written(job_file, sparsearch, monkeypatch):
    def refused(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refused)
    answer = sparsearch("search", job_file, "--quiet")
    assert answer.code == 5
    assert "error: cannot write " in answer.err
    assert "Permission denied" in answer.err
