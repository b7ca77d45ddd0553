"""Runs with what they count: the points, the conventions of N, FLOPs and loss, and the curves where there are any."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from megalith.errors import InputError
from megalith.scaling.envelope import Curve
from megalith.scaling.points import Floats, Points

PARAMETER_CONVENTIONS = {
    "total": "all parameters",
    "with_head": "parameters with the head and without the input table",
    "non_embedding": "parameters without embeddings and head",
    "unknown": "parameters as the column counts them",
}
_CYCLE_OFF = 1.05  # a learning rate that falls over more than this times the run had not fallen at its end


@dataclass(frozen=True)
class Runs:
    """Finished runs from a table, a folder or an artifact."""

    points: Points
    source: str
    parameters_counted: str
    """A name in PARAMETER_CONVENTIONS."""
    flops_counted: str
    loss_unit: str
    counts: dict[str, Floats]
    """N by each convention that the source has."""
    curves: tuple[Curve, ...] = ()
    cycle_tokens: Floats | None = None
    """Tokens over which each run's learning rate fell."""
    vocab_size: int | None = None
    left_out: tuple[str, ...] = ()
    """Rows and runs that were not read, one sentence each."""

    def described(self) -> str:
        """The conventions in one line."""
        ratio = self.points.flops / (6 * self.points.parameters * self.points.tokens)
        low, high = float(ratio.min()), float(ratio.max())
        said = f", {low:.3g} to {high:.3g} times 6·N·D" if max(abs(low - 1), abs(high - 1)) > 0.005 else ""
        return (
            f"{len(self.points)} runs; N: {PARAMETER_CONVENTIONS[self.parameters_counted]}; "
            f"FLOPs: {self.flops_counted}{said}; loss: {self.loss_unit}"
        )

    def counted(self, convention: str) -> "Runs":
        """The same runs with N by another convention."""
        points = replace(self.points, parameters=self.counts[convention])
        return replace(self, points=points, parameters_counted=convention)

    def chosen(self, kept: Floats, why: str) -> "Runs":
        """The runs `kept`; the others are named among those left out."""
        mask = np.asarray(kept, dtype=bool)
        gone = int((~mask).sum())
        if not gone:
            return self
        return replace(
            self,
            points=self.points[mask],
            counts={name: values[mask] for name, values in self.counts.items()},
            cycle_tokens=None if self.cycle_tokens is None else self.cycle_tokens[mask],
            left_out=(*self.left_out, f"{gone} {why}"),
        )

    def warnings(self) -> list[str]:
        """Reasons to doubt the runs, as far as they show."""
        found = []
        if self.cycle_tokens is not None:
            ratio = self.cycle_tokens / self.points.tokens
            off = ratio > _CYCLE_OFF
            if off.any():
                found.append(
                    f"{int(off.sum())} runs end before their learning rate has fallen (it would after up to "
                    f"{ratio.max():.2g} times their tokens): their losses are too high (2203.15556 §B)"
                )
        below = self.points.tokens < self.points.parameters
        if below.mean() > 0.2:
            found.append(
                f"{int(below.sum())} runs have fewer tokens than parameters, where no power law is known to hold"
            )
        return found


def read_runs(source: Path, *, only: Sequence[str] = (), drop_highest: int = 0, parameters: str | None = None) -> Runs:
    """Runs of a CSV, a train artifact, or a folder that holds such.

    `only` keeps rows by COLUMN=VALUE; `drop_highest` leaves out that many of the highest losses; `parameters` chooses
    the convention of N. Raises InputError where nothing that can be read is there.
    """
    if source.is_dir():
        from megalith.scaling.own_runs import read_own_runs

        if only:
            raise InputError("a folder of runs has no columns.", where="--only", mend="Remove it, or use a CSV.")
        runs = read_own_runs(source)
    else:
        from megalith.scaling.table import read_table

        runs = read_table(source, only)
    if parameters is not None:
        if parameters not in runs.counts:
            raise InputError(
                f"these runs do not say N as {PARAMETER_CONVENTIONS.get(parameters, parameters)}.",
                where=str(source),
                mend=f"Use {' or '.join(runs.counts)}.",
            )
        runs = runs.counted(parameters)
    if drop_highest:
        if not 0 < drop_highest < len(runs.points):
            raise InputError(
                f"{drop_highest} runs cannot be left out of {len(runs.points)}.",
                where="--drop-highest",
                mend="Use a smaller number.",
            )
        kept = np.ones(len(runs.points), dtype=bool)
        kept[np.argsort(runs.points.loss, kind="stable")[-drop_highest:]] = False
        runs = runs.chosen(kept, f"runs with the highest losses (--drop-highest {drop_highest})")
    return runs


def read_points(path: Path) -> Points:
    """The points of `read_runs`."""
    return read_runs(path).points


def facts_of(runs: Runs) -> dict[str, Any]:
    """The conventions for `--json`."""
    return {
        "source": runs.source,
        "runs": len(runs.points),
        "parameters": runs.parameters_counted,
        "flops": runs.flops_counted,
        "loss": runs.loss_unit,
        "described": runs.described(),
        "left_out": list(runs.left_out),
    }
