"""The page: self-contained, escaped, deterministic, and honest in its first line."""

import re
from html.parser import HTMLParser

import pytest

from sparsearch.evaluation.intervals import Interval
from sparsearch.report import Difference, Objective, render

HOSTILE = "<script>alert('x')</script>\"&{{ 7*7 }}"


class Page(HTMLParser):
    """Collects tags with attributes and checks that they nest."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_loads_nothing(report):
    text = render(report())
    for tag, attributes in Page(text).tags:
        assert tag not in {"script", "link", "img", "iframe", "object", "base"}
        for name in ("src", "href", "xlink:href", "data", "poster"):
            assert (attributes.get(name) or "#").startswith("#"), (tag, attributes)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_ids_are_unique_over_all_charts(report):
    ids = [attributes["id"] for _, attributes in Page(render(report())).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_equal_data_give_equal_bytes(report):
    assert render(report()) == render(report())


def test_hostile_text_is_escaped_everywhere(report):
    plain = report()
    row = plain.rows[-1]
    hostile = report(
        title=HOSTILE,
        objective=Objective(HOSTILE, HOSTILE),
        rows=(*plain.rows, type(row)(HOSTILE, row.objective, row.perplexity, 0.6, 1.0, 1.0)),
        differences=(Difference(HOSTILE, HOSTILE, Interval(-1, -2, -0.5)),),
        curve_references={HOSTILE: 0.2},
        curve_panel=HOSTILE,
        config_yaml=HOSTILE,
        provenance={HOSTILE: HOSTILE},
        notes=(HOSTILE,),
    )
    text = render(hostile)
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert "{{ 7*7 }}" in text
    assert HOSTILE in "".join(page.words)


@pytest.mark.parametrize(
    ("interval", "sentence"),
    [
        (Interval(-0.15, -0.16, -0.14), "searched beats uniform: held-out KL lower by 0.150 [0.140, 0.160]"),
        (
            Interval(0.15, 0.14, 0.16),
            "searched is worse than uniform: held-out KL higher by 0.150 [0.140, 0.160]",
        ),
        (
            Interval(-0.01, -0.05, 0.03),
            "No significant gain of searched over uniform: held-out KL differs by -0.010 [-0.050, 0.030]",
        ),
    ],
)
def test_the_verdict_comes_first(report, interval, sentence):
    words = [w.strip() for w in Page(render(report(differences=(Difference("searched", "uniform", interval),)))).words]
    words = [word for word in words if word]
    assert words.index(f"{sentence} nats/token.") < words.index("Comparison")


def test_figures_levels_job_and_provenance_are_on_the_page(report):
    words = " ".join(Page(render(report())).words)
    for expected in (
        "0.149 [0.141, 0.158]", "held-out KL (nats/token)", "model.layers.11.mlp.down_proj", "3.40 M",
        "searcher: {name: evopress, generations: 100}", "The held-out panel has 64 sequences", "4,900,000",
    ):  # fmt: skip
        assert expected in words


def test_a_report_of_an_allocator_alone_has_no_curve(report):
    text = render(report(curve=(), differences=(), profiles={}, notes=(), provenance={}, config_yaml=""))
    assert "The search" not in text
    assert "Nothing was compared" in text
