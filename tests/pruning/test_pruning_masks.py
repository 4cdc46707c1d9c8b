from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsearch.pruning import NM, Unstructured
from sparsearch.pruning.masks import lowest, lowest_of_each, masks_by_score


def brute_force(scores, count):
    ranked = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    return [i in ranked[:count] for i in range(len(scores))]


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_the_lowest_are_those_of_a_stable_sort(data):
    width = data.draw(st.integers(1, 12))
    # Few distinct values, so that ties are the rule.
    rows = data.draw(st.lists(st.lists(st.integers(0, 3), min_size=width, max_size=width), min_size=1, max_size=4))
    counts = data.draw(st.lists(st.integers(0, width), min_size=len(rows), max_size=len(rows)))
    scores = torch.tensor(rows, dtype=torch.float32)
    expected = [brute_force(row, count) for row, count in zip(rows, counts, strict=True)]
    assert lowest(scores, torch.tensor(counts)).tolist() == expected
    assert lowest_of_each(scores, counts).tolist() == expected
    shared = lowest(scores[:1], torch.tensor(counts)).tolist()
    assert shared == [brute_force(rows[0], count) for count in counts]


def test_site_and_row_groups_compare_what_they_say():
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    site = masks_by_score(scores, [Unstructured(4)], "site")
    row = masks_by_score(scores, [Unstructured(4)], "row")
    assert site.int().tolist() == [[[0, 0, 0, 0], [1, 1, 1, 1]]]
    assert row.int().tolist() == [[[0, 0, 1, 1], [0, 0, 1, 1]]]


def test_mixed_patterns_come_in_the_order_asked_for():
    scores = torch.tensor([[4.0, 1.0, 3.0, 2.0]])
    patterns = [NM(2, 4), Unstructured(1), NM(1, 2), NM(1, 4), Unstructured(0), NM(4, 4)]
    assert masks_by_score(scores, patterns, "row").squeeze(1).int().tolist() == [
        [1, 0, 1, 0],
        [1, 0, 1, 1],
        [1, 0, 1, 0],
        [1, 0, 0, 0],
        [1, 1, 1, 1],
        [1, 1, 1, 1],
    ]


def test_what_does_not_divide_by_the_rows_comes_from_the_first_ones():
    mask = masks_by_score(torch.rand(3, 8), [Unstructured(7)], "row")[0]
    assert (~mask).sum(dim=1).tolist() == [3, 2, 2]
