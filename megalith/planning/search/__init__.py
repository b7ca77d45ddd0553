"""The layout search for a cluster: everything that could be run, judged by the cost and the memory model."""

from megalith.planning.search.candidate import Evaluator
from megalith.planning.search.objectives import FINALISTS, Objective, best_layout
from megalith.planning.search.request import kept
from megalith.planning.search.result import choices, cluster_layout
from megalith.planning.search.space import Question

__all__ = [
    "FINALISTS",
    "Evaluator",
    "Objective",
    "Question",
    "best_layout",
    "choices",
    "cluster_layout",
    "kept",
]
