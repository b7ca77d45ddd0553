"""What a step takes: from the job, the datasheets and a few calibrated constants, without running anything."""

from megalith.planning.performance.constants import Constants, constants_for
from megalith.planning.performance.step_time import StepTime, predict_step

__all__ = ["Constants", "StepTime", "constants_for", "predict_step"]
