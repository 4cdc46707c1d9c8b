"""Latency is bounded in units of time."""

import pytest

from sparsearch.errors import ConfigError
from sparsearch.space.budget import parse_amount


@pytest.mark.parametrize(("text", "seconds"), [("12ms", 0.012), ("800us", 8e-4), ("2s", 2.0), (0.5, 0.5)])
def test_times_are_in_seconds(text, seconds):
    assert parse_amount("latency", text).value == pytest.approx(seconds)


@pytest.mark.parametrize(("resource", "text"), [("latency", "4GiB"), ("bytes", "12ms")])
def test_units_of_another_resource_are_refused(resource, text):
    with pytest.raises(ConfigError, match=f"budget.{resource}: unit"):
        parse_amount(resource, text)
