"""For authors of plug-ins: synthetic problems, and conformance suites to subclass in a test file.

`sparsearch.testing.searchers` needs pytest; nothing else here does.
"""

from sparsearch.testing.problems import SyntheticProblem, quadratic_problem

__all__ = ["SyntheticProblem", "quadratic_problem"]
