"""The layout search for a cluster: everything that could be run, weighed by the cost and the memory model."""

from megalith.planning.search.answer import choices, cluster_layout
from megalith.planning.search.objectives import Objective, best_layout
from megalith.planning.search.question import kept
from megalith.planning.search.space import Question
from megalith.planning.search.weigh import Scales

__all__ = [
    "Objective",
    "Question",
    "Scales",
    "best_layout",
    "choices",
    "cluster_layout",
    "kept",
]
