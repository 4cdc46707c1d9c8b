"""Search space, allocations, budgets, profiles: plain numbers, no torch."""

from sparsearch.space.allocation import Allocation
from sparsearch.space.budget import Budget, Limits, show_amount
from sparsearch.space.level import DENSE, Level, level_grid, parse_level
from sparsearch.space.profile import Profile
from sparsearch.space.space import SearchSpace, linear_space

__all__ = [
    "DENSE",
    "Allocation",
    "Budget",
    "Level",
    "Limits",
    "Profile",
    "SearchSpace",
    "level_grid",
    "linear_space",
    "parse_level",
    "show_amount",
]
