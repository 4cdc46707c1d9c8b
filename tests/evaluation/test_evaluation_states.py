import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given, settings
from torch import nn

from sparsearch.evaluation.prefix import divergences, prefix_order, wanted_depths
from sparsearch.evaluation.states import StateCache
from sparsearch.model.segments import Segments
from sparsearch.space import Allocation

BLOCKS = (0, 0, 1, 2, 2, 2, 3, 4)
SITES = np.array([1, 0, 2, 3, 4, 4, 5, 6, 7])  # not in the order of the segments, and one behind all blocks
SEGMENTS = Segments(tuple(nn.Identity() for _ in BLOCKS[1:]), BLOCKS, SITES)
candidates = st.lists(st.tuples(*[st.integers(0, 2)] * len(SITES)), min_size=1, max_size=12)


def prefix(levels, depth):
    return [level for level, segment in zip(levels, SITES, strict=True) if segment < depth]


def output_of(levels, depth):
    """Tells by its values which prefix it was computed from; sizes differ."""
    return torch.tensor(prefix(levels, depth)).float().repeat(1 + depth % 3)


def walk(levels, bound):
    """Replays an evaluation symbolically; yields where each candidate would enter and where it does."""
    allocations = [Allocation(row) for row in levels]
    order = prefix_order(allocations, SITES)
    starts = divergences(allocations, order, SITES, len(SEGMENTS.modules))
    cache = StateCache(SEGMENTS, bound)
    for position, index in enumerate(order):
        row = allocations[index].levels
        leave = {need for depth in wanted_depths(starts, position) for need in SEGMENTS.needed(depth)}
        begin = cache.enter(starts[position], leave)
        for depth in SEGMENTS.needed(begin):
            assert torch.equal(cache.outputs[depth], output_of(row, depth)), "what is entered with is its own"
        for depth in sorted(depth for depth in leave if depth > begin):
            cache.keep(depth, output_of(row, depth))
            assert sum(output.nbytes for output in cache.outputs.values()) <= bound
        yield starts[position], begin


@settings(deadline=None)
@given(candidates)
def test_with_room_every_candidate_enters_where_it_differs(levels):
    assert all(start == begin for start, begin in walk(levels, 10**6))


@settings(deadline=None)
@given(candidates, st.integers(0, 400))
def test_within_a_bound_candidates_enter_earlier(levels, bound):
    assert all(begin <= start for start, begin in walk(levels, bound))


def test_a_part_that_does_not_fit_leaves_the_block_before():
    cache = StateCache(SEGMENTS, 24)
    cache.enter(0, {3, 4, 5})
    for depth, size in ((3, 4), (4, 3), (5, 1)):
        cache.keep(depth, torch.zeros(size))
    assert set(cache.outputs) == {3}
    assert cache.enter(5, set()) == 3


def test_a_view_counts_with_all_that_it_holds():
    cache = StateCache(SEGMENTS, 100)
    cache.keep(3, torch.zeros(100)[:1])
    assert not cache.outputs


def test_outputs_that_were_written_to_are_lost():
    cache = StateCache(SEGMENTS, 10**6)
    state, part = (torch.zeros(3), None), torch.zeros(3)
    cache.keep(3, state)
    cache.keep(4, part)
    part.view(-1)[:1] += 1
    assert cache.enter(4, {3, 4}) == 3
    state[0].mul_(2)
    assert cache.enter(4, {3, 4}) == 0


def test_what_no_later_candidate_enters_at_makes_room():
    cache = StateCache(SEGMENTS, 24)
    cache.keep(2, torch.zeros(3))
    cache.keep(6, torch.zeros(3))
    assert cache.enter(6, set()) == 6
    assert set(cache.outputs) == {6}
