import json

import pytest
import tiny_jobs
import torch

from sparsearch.errors import ConfigError, ResourceError
from sparsearch.export.imported import Place, import_evopress
from sparsearch.space import Profile


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Jobs of these tests are so small that a second thread only costs, on a busy machine tenfold."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(tmp_path, tiny_llama_folder):
    return tiny_jobs.finished_run(tiny_llama_folder, tmp_path / "finished")


def level_text(path, place, level):
    path.write_text("\n".join(f"{site.name}: {level(site)}" for site in place.space.sites))
    return path


def test_levels_become_the_nearest_of_the_job_s(run, tmp_path):
    place = Place.of_run(run)
    path = level_text(tmp_path / "c.txt", place, lambda site: -1 if "q_proj" in site.name else 1)
    found = import_evopress(path, place, target=0.5, step=200)
    # q: 0.5 - 200/1024 = 0.305; k, v: 0.89; o: 0.695; mlp: 0.63. The grid is 0, 0.25, 0.5, 0.75.
    labels = {site["name"].rpartition(".")[2]: site["level"] for site in found.profile.sites}
    assert labels == {
        "q_proj": "0.25", "k_proj": "0.75", "v_proj": "0.75", "o_proj": "0.75", "gate_proj": "0.75",
        "up_proj": "0.75", "down_proj": "0.75",
    }  # fmt: skip
    weights = 2 * (2 * 1024 + 2 * 512 + 3 * 1536)
    assert found.asked == pytest.approx(0.5 + 2 * 5 * 200 / weights)
    assert found.changed == 14
    assert found.largest_change == pytest.approx(0.5 + 200 / 512 - 0.75)
    assert found.met is True
    assert found.profile.budget == {"sparsity": "0.5"}
    assert found.profile.provenance["searcher"] == "imported: evopress"
    assert (found.profile.provenance["target"], found.profile.provenance["step"]) == (0.5, 200)


def test_a_budget_that_rounding_misses_is_told(run, tmp_path):
    place = Place.of_run(run)
    path = level_text(tmp_path / "c.txt", place, lambda site: 0)
    assert import_evopress(path, place, target=0.6, step=100).met is True
    found = import_evopress(path, place, target=0.3, step=100)
    assert (found.met, found.profile.sparsity) == (False, pytest.approx(0.25))


def test_a_model_without_a_job_gets_the_default_levels(tiny_llama_folder, tmp_path):
    place = Place.of_model(str(tiny_llama_folder))
    path = level_text(tmp_path / "c.txt", place, lambda site: 0)
    found = import_evopress(path, place, target=0.6, step=100)
    assert {site["level"] for site in found.profile.sites} == {"0.6"}
    assert found.profile.budget == {"sparsity": "0.6"}
    assert found.met is True
    found.profile.save(tmp_path / "p.json")
    assert Profile.load(tmp_path / "p.json") == found.profile


def test_a_job_file_that_was_not_run_is_a_place_too(run, tmp_path):
    place = Place.of_run(run.parent.parent / "job.yaml")
    assert place.space.describe() == Place.of_run(run).space.describe()


def test_the_published_step_without_a_sidecar_and_a_target_in_any_case(run, tmp_path):
    place = Place.of_run(run)
    path = level_text(tmp_path / "c.txt", place, lambda site: 0)
    assert import_evopress(path, place, target=0.5).profile.provenance["step"] == 1_000_000
    with pytest.raises(ConfigError, match=r"--target: missing; c\.txt holds levels only, so give the sparsity that"):
        import_evopress(path, place)
    path.with_name("c.txt.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(ConfigError, match=r"c\.txt\.json: format is 'other'"):
        import_evopress(path, place)
    # Both given: nothing is left for the sidecar to say.
    assert import_evopress(path, place, target=0.5, step=5).met is True


def test_depth_text_needs_a_level_that_removes_everything(run, tmp_path, tiny_llama_folder):
    path = tmp_path / "depth.txt"
    path.write_text("none\nattn\n")
    with pytest.raises(ConfigError, match=r"is to be dropped, but its sparsest level is 0\.75; add 1\.0 to the job's"):
        import_evopress(path, Place.of_run(run))
    space = {"levels": [0.5, 1.0], "pruner": "wanda"}
    place = Place.of_run(tiny_jobs.write_job(tmp_path, tiny_llama_folder, space=space, budget={"sparsity": 0.2}))
    found = import_evopress(path, place)
    assert {site["name"] for site in found.profile.sites if site["sparsity"] == 1} == {
        f"model.layers.1.self_attn.{kind}_proj" for kind in "qkvo"
    }
    assert {site["level"] for site in found.profile.sites} == {"dense", "1"}
    assert (found.changed, found.met) == (0, True)
    with pytest.raises(ConfigError, match=r"depth text, which has neither; leave them out"):
        import_evopress(path, place, target=0.5)
    path.write_text("none\n")
    with pytest.raises(ConfigError, match="1 lines, but the model has 2 blocks"):
        import_evopress(path, place)


def test_files_that_are_missing_or_no_text(run, tmp_path):
    place = Place.of_run(run)
    with pytest.raises(ResourceError, match=r"absent\.txt does not exist; give a file that EvoPress wrote"):
        import_evopress(tmp_path / "absent.txt", place, target=0.5)
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ResourceError, match=r"b\.txt cannot be read as text"):
        import_evopress(tmp_path / "b.txt", place, target=0.5)
