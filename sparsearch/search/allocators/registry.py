"""All allocators by name, uniform first."""

from __future__ import annotations

from sparsearch.search.allocators.adapt_pruner import AdaptPruner
from sparsearch.search.allocators.alpha_pruning import AlphaPruning
from sparsearch.search.allocators.arithmetic import Arithmetic
from sparsearch.search.allocators.block_influence import BlockInfluence
from sparsearch.search.allocators.cfsp import CFSP
from sparsearch.search.allocators.dlp import DLP
from sparsearch.search.allocators.ecoflap import ECoFLaP
from sparsearch.search.allocators.erdos_renyi import ErdosRenyi
from sparsearch.search.allocators.erk import ERK
from sparsearch.search.allocators.fisher import Fisher
from sparsearch.search.allocators.flap import FLAP
from sparsearch.search.allocators.global_magnitude import GlobalMagnitude
from sparsearch.search.allocators.lamp import LAMP
from sparsearch.search.allocators.layer_error import LayerError
from sparsearch.search.allocators.lim import LIM
from sparsearch.search.allocators.lrp import LRP
from sparsearch.search.allocators.owl import OWL
from sparsearch.search.allocators.pq_index import PQIndex
from sparsearch.search.allocators.taylor import Taylor
from sparsearch.search.allocators.uniform import Uniform
from sparsearch.search.allocators.zd import ZD
from sparsearch.search.base import Searcher

BY_NAME: dict[str, type[Searcher]] = {
    "uniform": Uniform,
    "erk": ERK,
    "erdos_renyi": ErdosRenyi,
    "arithmetic": Arithmetic,
    "layer_error": LayerError,
    "global_magnitude": GlobalMagnitude,
    "lamp": LAMP,
    "pq_index": PQIndex,
    "alpha_pruning": AlphaPruning,
    "zd": ZD,
    "owl": OWL,
    "dlp": DLP,
    "flap": FLAP,
    "block_influence": BlockInfluence,
    "lim": LIM,
    "cfsp": CFSP,
    "adapt_pruner": AdaptPruner,
    "lrp": LRP,
    "taylor": Taylor,
    "fisher": Fisher,
    "ecoflap": ECoFLaP,
}
"""In order of cost: nothing, the weights, a forward, a forward and a backward, many forwards."""
