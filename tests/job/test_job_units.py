import pytest

from sparsearch.errors import ConfigError
from sparsearch.job.units import parse_duration, parse_memory


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1d", 86400),
        ("0.5h", 1800),
        ("45", 45),
        (7.5, 7.5),
    ],
)
def test_durations(text, seconds):
    assert parse_duration(text, "run.time_limit") == seconds


@pytest.mark.parametrize("text", ["", "h", "5x", "30m1h", "-5s", 0, -1, True, None, "1..5h", float("nan"), "inf"])
def test_what_is_no_duration_is_named(text):
    with pytest.raises(ConfigError, match=r"^run\.time_limit: found .*; allowed: 90s, 15m, 2h"):
        parse_duration(text, "run.time_limit")


@pytest.mark.parametrize(
    ("text", "wanted"), [("512MiB", 2**29), ("2 GB", 2 * 10**9), ("1.5kib", 1536), (4096, 4096), ("7", 7)]
)
def test_memory(text, wanted):
    assert parse_memory(text, "run.state_cache") == wanted


@pytest.mark.parametrize("text", ["", "5 apples", "-1", "0", True, "1e400", "nan", None, "1..5GB"])
def test_what_is_no_memory(text):
    with pytest.raises(ConfigError, match=r"run\.state_cache: found .*; allowed: 512MiB"):
        parse_memory(text, "run.state_cache")
