import pytest
import tiny_jobs

from sparsearch.errors import ConfigError, ConflictError
from sparsearch.job.config import load_config, parse_config
from sparsearch.job.folder import RunFolder
from sparsearch.job.journal import Journal


def config(folder, **changes):
    return parse_config(tiny_jobs.mapping(folder, "model", **changes))


def test_claiming_writes_the_whole_config_once(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.check(config(tmp_path))
    assert not folder.path.exists()
    folder.claim(config(tmp_path))
    assert load_config(folder.config) == config(tmp_path)
    written = folder.config.stat().st_mtime_ns
    folder.claim(config(tmp_path, run={"dir": "elsewhere", "time_limit": "2h", "workers": 2}, supernet="other"))
    assert folder.config.stat().st_mtime_ns == written


def test_a_folder_of_another_job_shows_every_difference_and_stays(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.claim(config(tmp_path))
    before = tiny_jobs.listing(tmp_path)
    other = config(tmp_path, seed=3, searcher={"name": "random", "evaluations": 5})
    with pytest.raises(ConflictError) as caught:
        folder.claim(other)
    first, *lines = str(caught.value).splitlines()
    assert str(folder.path) in first
    assert "choose another run.dir or delete it" in first
    assert {line.strip() for line in lines} >= {
        "seed: 0 in the run folder, 3 in job.yaml",
        "searcher.name: evopress in the run folder, random in job.yaml",
        "searcher.evaluations: not set in the run folder, 5 in job.yaml",
    }
    assert tiny_jobs.listing(tmp_path) == before


def test_a_journal_without_a_config_is_nobody_s(tmp_path):
    folder = RunFolder(tmp_path)
    Journal.create_or_open(folder.journal).close()
    with pytest.raises(
        ConflictError, match=r"has a journal but no config\.yaml; restore it or choose another run\.dir"
    ):
        folder.claim(config(tmp_path))
    assert not folder.config.exists()


def test_a_damaged_config_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    folder.config.write_text("model: [")
    with pytest.raises(ConfigError, match=r"config\.yaml: line 1"):
        folder.check(config(tmp_path))


def test_where_things_lie(tmp_path):
    folder = RunFolder(tmp_path)
    named = (folder.config, folder.journal, folder.best, folder.uniform, folder.report, folder.log)
    assert [str(path.relative_to(tmp_path)) for path in named] == [
        "config.yaml",
        "journal.sqlite",
        "profiles/best.json",
        "profiles/uniform.json",
        "report.html",
        "run.log",
    ]
