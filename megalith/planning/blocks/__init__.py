"""This machine, measured once: seconds of a layer, of messages and of a step's other parts, and steps composed of them.

What is measured are blocks in isolation, never a layout's own step; `compose` puts them together for a layout.
"""

from megalith.planning.blocks.ask import calibrate_here, layouts_here
from megalith.planning.blocks.compose import BlockStep, predict_here
from megalith.planning.blocks.measure import measure, measuring
from megalith.planning.blocks.table import BlockTable, read_table, write_table

__all__ = [
    "BlockStep",
    "BlockTable",
    "calibrate_here",
    "layouts_here",
    "measure",
    "measuring",
    "predict_here",
    "read_table",
    "write_table",
]
