"""What a step takes: from the job, the datasheets and a few calibrated constants, without running anything."""

from megalith.planning.cost.constants import Constants, constants_for
from megalith.planning.cost.step import StepTime, predict_step

__all__ = ["Constants", "StepTime", "constants_for", "predict_step"]
