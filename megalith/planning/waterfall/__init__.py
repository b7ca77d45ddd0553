"""`megalith plan explain`: a layout's step from ideal FLOPs to seconds, part by part, as figures and as a picture."""

from megalith.planning.waterfall.explained import explain_layouts
from megalith.planning.waterfall.parts import GROUPS, Part, Waterfall, waterfall
from megalith.planning.waterfall.picture import write_waterfalls

__all__ = ["GROUPS", "Part", "Waterfall", "explain_layouts", "waterfall", "write_waterfalls"]
