"""`python -m tests.faults [--faults 200]`: plants faults in small runs and prints what became of them."""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.plants import KINDS, LAYOUTS, STEPS, draw
from tests.faults.runs import Outcome, unbroken, with_fault

RESULT = Path("benchmarks/results/faults.json")
COLUMNS = ("faults", "recovered", "steps lost", "silent", "deleted", "median s", "longest s")


def main() -> int:
    options = _options()
    work = Path(options.work or tempfile.mkdtemp(prefix="faults-"))
    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    unbroken("single", work / "first")  # which starts the server of the forks
    wholes = {layout: unbroken(layout, work / f"whole-{layout.replace(' ', '-')}") for layout in LAYOUTS}
    about = {"processor": _processor(), "cores": os.cpu_count(), "python": platform.python_version()}
    numbers = [options.case] if options.case is not None else range(options.first, options.first + options.faults)
    outcomes: list[Outcome] = []
    for number in numbers:
        if options.minutes and time.monotonic() - began > 60 * options.minutes:
            break
        fault = draw(options.seed, number)
        outcomes.append(with_fault(fault, wholes[fault.layout], work / f"case-{number}"))
        if not _is_right(outcomes[-1]):
            _say(
                f"  {fault.kind}, {fault.layout}: {outcomes[-1]}\n    --seed {options.seed} --case {number} --work DIR"
            )
        elif not options.work:
            shutil.rmtree(work / f"case-{number}")
        if options.case is None:
            figures = about | {"seed": options.seed} | _figures(outcomes)
            Path(options.result).write_text(json.dumps(figures, indent=1) + "\n")
    _say(table(outcomes))
    bad = [outcome for outcome in outcomes if not _is_right(outcome)]
    found = _figures(outcomes)
    _say(
        f"{len(outcomes)} faults, {len(bad)} not recovered as they should, {time.monotonic() - began:.0f} s. Goodput: "
        f"{found['goodput_steps']:.1%} of the steps taken counted, {found['goodput_seconds']:.1%} of the time with "
        f"one fault in every {STEPS} steps."
    )
    if bad:
        _say(f"the runs that did not recover are kept: {work}")
    elif not options.work:
        shutil.rmtree(work)
    return 1 if bad else 0


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes by kind, and of all."""
    rows = [("", *COLUMNS)]
    for kind in (*KINDS, "all"):
        row = _row([each for each in outcomes if kind in ("all", each.fault.kind)])
        rows.append((kind, *(f"{value:.1f}" if isinstance(value, float) else str(value) for value in row.values())))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        row[0].ljust(widths[0])
        + "  "
        + "  ".join(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    )


def _row(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    seconds = [each.recovery_seconds for each in outcomes if each.recovery_seconds is not None]
    return {
        "faults": len(outcomes),
        "recovered": sum(each.recovered for each in outcomes),
        "steps_lost": sum(each.lost_steps for each in outcomes),
        "silent_changes": sum(each.silent for each in outcomes),
        "deleted_checkpoints": sum(each.deleted for each in outcomes),
        "median_recovery_seconds": statistics.median(seconds) if seconds else None,
        "longest_recovery_seconds": max(seconds, default=None),
    }


def _figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The content of the file of figures."""
    taken, seconds = sum(each.steps_taken for each in outcomes), sum(each.seconds for each in outcomes)
    return {
        "all": _row(outcomes),
        "kinds": {kind: _row([each for each in outcomes if each.fault.kind == kind]) for kind in KINDS},
        "layouts": {layout: _row([each for each in outcomes if each.fault.layout == layout]) for layout in LAYOUTS},
        "steps_of_a_run": STEPS,
        "goodput_steps": STEPS * len(outcomes) / taken if taken else 0.0,
        "goodput_seconds": sum(each.whole_seconds for each in outcomes) / seconds if seconds else 0.0,
        "not_recovered": [asdict(each) for each in outcomes if not _is_right(each)],
    }


def _is_right(outcome: Outcome) -> bool:
    return outcome.recovered and not (outcome.lost_steps or outcome.silent or outcome.deleted)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Plant faults; see docs/faults.md.")
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="number of the first fault")
    parser.add_argument("--case", type=int, help="one fault alone")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--minutes", type=float, help="plant no more after so many minutes")
    parser.add_argument("--work", help="directory that is kept")
    parser.add_argument("--result", default=str(RESULT), help="file of the figures")
    return parser.parse_args()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
