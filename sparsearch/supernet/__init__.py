"""The store of all variants of a model: built once, read-only afterwards."""

from sparsearch.supernet.accumulation import Mixture
from sparsearch.supernet.build import BuildPlan, build_supernet
from sparsearch.supernet.store import Supernet
from sparsearch.supernet.switch import Switcher, switch

__all__ = ["BuildPlan", "Mixture", "Supernet", "Switcher", "build_supernet", "switch"]
