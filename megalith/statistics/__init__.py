"""Standard errors, intervals and tests that more than one room prints.

`intervals`: one sample, independent or in clusters. `paired`: two models on the same items. `several`: many tests at
once, and the parts of a score's variance.
"""

from megalith.statistics.intervals import (
    Z_95,
    bootstrap_interval,
    clustered_interval,
    clustered_mean_and_standard_error,
    effective_sample_size,
    linear_scores,
    mean_and_standard_error,
    ratio_and_standard_error,
    t_quantile,
    wilson_interval,
)
from megalith.statistics.paired import (
    Difference,
    equivalence_p,
    mcnemar,
    paired_difference,
    smallest_visible_difference,
    t_difference,
)
from megalith.statistics.several import VariancePart, false_discovery, variance_parts

__all__ = [
    "Z_95",
    "Difference",
    "VariancePart",
    "bootstrap_interval",
    "clustered_interval",
    "clustered_mean_and_standard_error",
    "effective_sample_size",
    "equivalence_p",
    "false_discovery",
    "linear_scores",
    "mcnemar",
    "mean_and_standard_error",
    "paired_difference",
    "ratio_and_standard_error",
    "smallest_visible_difference",
    "t_difference",
    "t_quantile",
    "variance_parts",
    "wilson_interval",
]
