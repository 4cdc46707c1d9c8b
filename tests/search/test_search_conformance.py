from sparsearch.search import make_searcher
from sparsearch.testing.searchers import SearcherConformance


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
