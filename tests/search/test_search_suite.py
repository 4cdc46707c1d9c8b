"""The conformance suite must catch the faults that it is there for."""

import numpy as np
import pytest

from sparsearch.search import Evaluate, Progress, Searcher
from sparsearch.space.repair import uniform
from sparsearch.testing.searchers import PROBLEMS, SearcherConformance


class Faulty(Searcher):
    """Ten neighbours of uniform, found in one of several wrong ways."""

    name = "faulty"
    fault = ""

    def steps(self):
        space, limits = self.problem.space, self.problem.limits
        start = uniform(space, limits)
        found = {start: None}
        rng = np.random if self.fault == "global randomness" else self.rng
        for _ in range(10):
            site = int(rng.permutation(len(space))[0])
            by = -1 if self.fault == "budget" else 1
            level = int(np.clip(start.levels[site] + by, 0, space.counts[site] - 1))
            found[start.replace({site: level})] = None
        allocations = (start, start) if self.fault == "duplicates" else tuple(found)
        sequences = (self.problem.sequences,) if self.fault == "panel" else (0,)
        values = yield Evaluate(allocations, sequences)
        if self.fault == "progress":
            self.progress = Progress(2, 1, None)
        if self.fault == "writes answers":
            values[0] = 0
        order = -values.mean(axis=1) if self.fault == "maximises" else values.mean(axis=1)
        return allocations[int(np.argmin(order))]


def suite(fault):
    class Suite(SearcherConformance):
        def make(self, problem, seed):
            searcher = Faulty(problem, None, np.random.default_rng(seed))
            searcher.fault = fault
            return searcher

    return Suite()


CHECKS = {
    "budget": lambda suite, usual: suite.test_every_allocation_meets_the_budget(usual),
    "duplicates": lambda suite, usual: suite.test_requests_are_sound(usual),
    "panel": lambda suite, usual: suite.test_requests_are_sound(usual),
    "global randomness": lambda suite, usual: suite.test_same_seed_same_run(usual),
    "progress": lambda suite, usual: suite.test_progress(usual),
    "writes answers": lambda suite, usual: suite.test_same_seed_same_run(usual),
    "maximises": lambda suite, usual: suite.test_no_worse_than_uniform(),
}


@pytest.mark.parametrize("fault", CHECKS)
def test_the_suite_catches(fault):
    usual = PROBLEMS["usual"]()
    CHECKS[fault](suite("none"), usual)
    with pytest.raises((AssertionError, ValueError, IndexError)):
        CHECKS[fault](suite(fault), usual)
