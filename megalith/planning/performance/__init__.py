"""A step reckoned on paper: its time, memory and messages, from the job, datasheets and a few calibrated constants."""

from megalith.planning.performance.constants import Constants, constants_for
from megalith.planning.performance.step_time import StepTime, predict_step

__all__ = ["Constants", "StepTime", "constants_for", "predict_step"]
