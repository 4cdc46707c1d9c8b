import pytest

from sparsearch.search import ALLOCATORS, make_searcher
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import SearcherConformance, drive


@pytest.mark.parametrize("name", [name for name in ALLOCATORS if name != "fisher"])
class TestAllocators(SearcherConformance):
    @pytest.fixture(autouse=True)
    def _named(self, name):
        self.name = name

    def make(self, problem, seed):
        return make_searcher(self.name, {}, problem, seed)


class TestBestAllocator(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("best_allocator", {"sequences": 4}, problem, seed)


class TestRandom(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("random", {"evaluations": 40, "sequences": 3}, problem, seed)


class TestRandomNearUniform(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("random", {"evaluations": 40, "radius": 2}, problem, seed)


class TestRandomStratified(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("random", {"evaluations": 40, "stratified": True}, problem, seed)


class TestEvoPress(SearcherConformance):
    def make(self, problem, seed):
        options = {"generations": 5, "offspring": 12, "survivors": [4, 2, 1], "tokens": [128, 512, 4096]}
        return make_searcher("evopress", options, problem, seed)


class TestTyr(SearcherConformance):
    def make(self, problem, seed):
        options = {"rounds": 3, "generations": 2, "offspring": 8, "survivors": [3, 1], "tokens": [128, 512]}
        return make_searcher("tyr", options, problem, seed)


class TestTyrRebuilding(SearcherConformance):
    def make(self, problem, seed):
        options = {"rebuild": True, "generations": 2, "offspring": 4, "survivors": 1, "tokens": 256}
        return make_searcher("tyr", options, problem, seed)


class TestFisher(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("fisher", {}, problem, seed)

    def test_no_worse_than_uniform(self):
        """The start is additive and noisy: with many sequences it nears the additive optimum."""
        synthetic = quadratic_problem(blocks=3, sequences=4000)
        best = drive(self.make_wide(synthetic.problem), synthetic).best
        optimum = synthetic.mean(synthetic.additive_optimum())
        assert synthetic.mean(best) <= 1.02 * optimum

    def make_wide(self, problem):
        return make_searcher("fisher", {"sequences": 4000}, problem, 0)


class TestQuadratic(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("quadratic", {"start": 8, "sequences": 4, "most": 16}, problem, seed)


class TestDifferentiable(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("differentiable", {"steps": 12, "compared": 8}, problem, seed)


class TestTPE(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("tpe", {"trials": 24, "basis": "curve", "polish": 8}, problem, seed)


class TestTPEOnFisherCosts(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("tpe", {"trials": 24, "basis": "fisher", "batch": 1}, problem, seed)


class TestTPEFront(SearcherConformance):
    def make(self, problem, seed):
        options = {"resources": ["params", "bytes"], "trials": 12, "basis": "curve", "polish": 4, "finals": 4}
        return make_searcher("tpe", options, problem, seed)


class TestGP(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("gp", {"trials": 14, "basis": "curve", "coefficients": 1}, problem, seed)


class TestGPFront(SearcherConformance):
    def make(self, problem, seed):
        options = {"resources": ["params"], "trials": 9, "basis": "curve", "coefficients": 1, "finals": 4}
        return make_searcher("gp", options, problem, seed)


class TestCMAES(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("cmaes", {"trials": 24, "basis": "curve"}, problem, seed)


class TestCMAESOnFisherCosts(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("cmaes", {"trials": 24, "sequences": 8}, problem, seed)


class TestKnapsackLayerErrors(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("knapsack", {"curves": "layer_error"}, problem, seed)


class TestKnapsackFisher(TestFisher):
    def make(self, problem, seed):
        return make_searcher("knapsack", {"curves": "fisher", "sequences": 8}, problem, seed)

    def make_wide(self, problem):
        return make_searcher("knapsack", {"curves": "fisher", "sequences": 4000}, problem, 0)


class TestKnapsackOneAtATime(SearcherConformance):
    off_budget = True

    def make(self, problem, seed):
        return make_searcher("knapsack", {"curves": "one_at_a_time", "sequences": 4}, problem, seed)


class TestRateDistortion(SearcherConformance):
    off_budget = True

    def make(self, problem, seed):
        return make_searcher("rd", {"sequences": 4}, problem, seed)


class TestRateDistortionWorst(SearcherConformance):
    off_budget = True

    def make(self, problem, seed):
        return make_searcher("rd", {"sequences": 4, "distortion": "worst"}, problem, seed)


class TestSPDY(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("spdy", {"vectors": 10, "patience": 3, "sequences": 4}, problem, seed)


class TestSPDYLevels(SearcherConformance):
    def make(self, problem, seed):
        options = {"prior": "levels", "vectors": 5, "patience": 2, "sequences": 4}
        return make_searcher("spdy", options, problem, seed)


class TestGreedyForward(SearcherConformance):
    off_budget = True

    def make(self, problem, seed):
        return make_searcher("greedy", {"sequences": 4}, problem, seed)


class TestGreedyBackward(SearcherConformance):
    off_budget = True

    def make(self, problem, seed):
        return make_searcher("greedy", {"direction": "backward", "sequences": 4}, problem, seed)


class TestEquilibrium(SearcherConformance):
    off_budget = True

    def make(self, problem, seed):
        return make_searcher("equilibrium", {"rounds": 3, "sequences": 4}, problem, seed)


class TestNSGA2(SearcherConformance):
    def make(self, problem, seed):
        options = {"generations": 3, "population": 10, "sequences": 4, "finals": 8}
        return make_searcher("nsga2", options, problem, seed)


class TestNSGA3(SearcherConformance):
    def make(self, problem, seed):
        options = {"resources": ["params", "bytes"], "generations": 3, "population": 10, "sequences": 4, "finals": 8}
        return make_searcher("nsga3", options, problem, seed)


class TestNAS(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("nas", {"evaluations": 14, "start": 4, "batch": 8, "sequences": 3}, problem, seed)


class TestTraceNAS(SearcherConformance):
    def make(self, problem, seed):
        options = {"generations": 3, "population": 8, "elite": 3, "spread": 0.1, "tokens": 256}
        return make_searcher("tracenas", options, problem, seed)


class TestProgressive(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("progressive", {"rounds": 2, "samples": 8, "sequences": 3}, problem, seed)
