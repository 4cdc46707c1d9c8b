from sparsearch.search import make_searcher
from sparsearch.testing import quadratic_problem
from sparsearch.testing.searchers import SearcherConformance, drive


class TestUniform(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("uniform", {}, problem, seed)


class TestERK(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("erk", {}, problem, seed)


class TestLayerError(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("layer_error", {}, problem, seed)


class TestRandom(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("random", {"evaluations": 40, "sequences": 3}, problem, seed)


class TestRandomNearUniform(SearcherConformance):
    def make(self, problem, seed):
        return make_searcher("random", {"evaluations": 40, "radius": 2}, problem, seed)


class TestEvoPress(SearcherConformance):
    def make(self, problem, seed):
        options = {"generations": 5, "offspring": 12, "survivors": [4, 2, 1], "tokens": [128, 512, 4096]}
        return make_searcher("evopress", options, problem, seed)


class TestEvoPressRace(SearcherConformance):
    def make(self, problem, seed):
        options = {"generations": 6, "offspring": 12, "starters": 4, "blocks": [1, 2, 4, 8]}
        return make_searcher("evopress+race", options, problem, seed)


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
