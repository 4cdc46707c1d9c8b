import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from sparsearch.evaluation.prefix import divergences, prefix_order, wanted_depths
from sparsearch.space import Allocation

SEGMENTS = np.array([1, 0, 0, 2, 1, 3])
candidates = st.lists(st.tuples(*[st.integers(0, 2)] * len(SEGMENTS)), min_size=1, max_size=12, unique=True)


def prefix(levels, depth):
    return tuple(level for level, segment in zip(levels, SEGMENTS, strict=True) if segment < depth)


@settings(deadline=None)
@given(candidates)
def test_every_wanted_state_is_there_when_it_is_used_and_distinct_prefixes_run_once(levels):
    """Replays the walk symbolically: a kept state carries the prefix that it was computed from."""
    allocations = [Allocation(row) for row in levels]
    order = prefix_order(allocations, SEGMENTS)
    starts = divergences(allocations, order, SEGMENTS, 4)
    kept: dict[int, tuple[int, ...]] = {}
    computed = []
    for position, index in enumerate(order):
        row = allocations[index].levels
        start = starts[position]
        kept = {depth: state for depth, state in kept.items() if depth <= start}
        begin = max(kept, default=0)
        assert begin == start, "the state in front of the first difference was kept"
        if begin:
            assert kept[begin] == prefix(row, begin), "and it is this candidate's own"
        computed += [prefix(row, depth + 1) for depth in range(begin, 4)]
        for depth in wanted_depths(starts, position):
            if depth > begin:
                kept[depth] = prefix(row, depth)
    assert len(computed) == len(set(computed)), "no prefix is computed twice"


def test_equal_neighbours_diverge_behind_the_last_segment():
    same = [Allocation((1,) * 6)] * 2
    assert divergences(same, [0, 1], SEGMENTS, 9) == [0, 9]
