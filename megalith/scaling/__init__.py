"""Scaling laws from runs: read their points, fit the law, say how sure it is."""

from megalith.scaling.approach_3 import Fit, fit_approach_3
from megalith.scaling.fitting import fit
from megalith.scaling.points import Points, read_points

__all__ = ["Fit", "Points", "fit", "fit_approach_3", "read_points"]
