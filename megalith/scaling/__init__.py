"""Scaling laws from runs: read their points, fit the laws, say how sure they are, foretell larger runs."""

from megalith.scaling.approach_3 import Fit, fit_approach_3
from megalith.scaling.envelope import fit_approach_1
from megalith.scaling.fitting import fit, fit_runs
from megalith.scaling.isoflop import fit_approach_2
from megalith.scaling.kaplan import fit_kaplan
from megalith.scaling.points import Points
from megalith.scaling.prediction import predict
from megalith.scaling.repetition import fit_repetition
from megalith.scaling.runs import Runs, read_points, read_runs

__all__ = [
    "Fit",
    "Points",
    "Runs",
    "fit",
    "fit_approach_1",
    "fit_approach_2",
    "fit_approach_3",
    "fit_kaplan",
    "fit_repetition",
    "fit_runs",
    "predict",
    "read_points",
    "read_runs",
]
