"""`megalith scaling fit`: a law from a table of runs, as the figures that the command prints."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from megalith.scaling.approach_3 import fit_approach_3
from megalith.scaling.points import read_points


def fit(runs: Path, *, resamples: int = 200, seed: int = 0) -> dict[str, Any]:
    """Fit approach 3 to the CSV `runs`; the keys are those of `--json`. Raises InputError on bad runs."""
    found = asdict(fit_approach_3(read_points(runs), resamples=resamples, seed=seed))
    return {"approach": 3, **found}
