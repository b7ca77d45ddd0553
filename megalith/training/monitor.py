"""Watching a run: a progress bar, TensorBoard scalars and `metrics.jsonl`, from the leading rank alone.

Model FLOPs utilisation (MFU) is arithmetic.flops_per_token × tokens per second ÷ the machine's peak. The FLOPs are
those of the matrix products of one forward and one backward pass: attention as if not causal, the logits too, and
nothing that is computed again. Tokens per second, FLOP/s and MFU are those of all ranks together.
"""

import errno
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from rich.progress import Progress as Bar
from rich.progress import TaskID

from megalith.artifacts import whole
from megalith.console import console, human_count, human_seconds, note, progress
from megalith.system_limits import limit_reached

METRICS = "metrics.jsonl"
FIRST_STEPS = 3  # of each start: they allocate memory, choose kernels and compile; not typical
COLUMNS = ("loss {task.fields[loss]}", "valid {task.fields[validation]}", "{task.fields[speed]}")


@dataclass(frozen=True)
class Yardsticks:
    """The figures that a run is measured against."""

    flops_per_token: float
    peak_flops_per_second: float | None
    """The peak of all ranks together."""
    predicted: Mapping[str, float]
    """The plan's `step_seconds`, of a full batch, and `memory_bytes`."""


@dataclass(frozen=True)
class Timing:
    """The tokens and seconds of one step."""

    tokens: int
    is_full: bool
    """False on the way of a batch ramp."""
    seconds: float
    phases: Mapping[str, float]
    is_traced: bool


class Monitor:
    """Shows and logs one run, on the leading rank."""

    def __init__(self, logs: Path, bar: Bar, task: TaskID, yardsticks: Yardsticks, step: int, total_steps: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # the other ranks can do without

        self._yardsticks = yardsticks
        self._bar, self._task, self._began_at, self._total_steps = bar, task, step, total_steps
        self._began = time.monotonic()
        _forget_after(logs / METRICS, step)
        self._lines = (logs / METRICS).open("ab", buffering=0)
        self._board: SummaryWriter | None = SummaryWriter(str(logs / "tensorboard"), purge_step=step + 1)
        self._is_cut_off = False
        self._said = ""

    def step(self, record: dict[str, Any], timing: Timing) -> None:
        """Show and log one step; `record` is its line of the history."""
        yardsticks, speed = self._yardsticks, timing.tokens / timing.seconds
        flops, planned = yardsticks.flops_per_token * speed, yardsticks.predicted.get("step_seconds")
        measured: dict[str, Any] = {
            "tokens_in_step": timing.tokens,
            "seconds": timing.seconds,
            "is_typical": self._is_typical(record["step"], timing),
            "tokens_per_second": speed,
            "flops_per_second": flops,
            "mfu": flops / yardsticks.peak_flops_per_second if yardsticks.peak_flops_per_second else None,
            "of_predicted": timing.seconds / planned if planned and timing.is_full else None,
            "phases": dict(timing.phases),
        }
        self._log(record | measured, record["step"])
        self._say(record, measured)

    def validation(self, record: dict[str, Any], seconds: float) -> None:
        """Show and log one measurement of the validation loss."""
        self._log(
            {"step": record["step"], "validation_loss": record["loss"], "phases": {"validation": seconds}},
            record["step"],
        )
        self._bar.update(self._task, validation=f"{record['loss']:.3f}")
        if not console.is_terminal:  # where no bar is drawn: a log file
            note(
                f"step {record['step']:,} of {self._total_steps:,}: {self._said}, "
                f"validation loss {record['loss']:.3f}{self._time_left(record['step'])}"
            )

    def evaluation(self, record: dict[str, Any], seconds: float) -> None:
        """Log the scores of tasks under the weights of a step."""
        scores = {f"evaluate/{row['name']}-{row['shots']}/{row['metric']}": row["score"] for row in record["rows"]}
        self._log({"step": record["step"], **scores, "phases": {"evaluation": seconds}}, record["step"])

    def slow_rank(self, step: int, rank: int, times: float) -> None:
        """Log a rank that takes so many times as long as the others."""
        self._log({"step": step, "slow_rank": rank, "times_as_long": times}, step)

    def checkpoint(self, step: int, seconds: float) -> None:
        """Log the seconds for which training waited for a save."""
        self._log({"step": step, "phases": {"checkpoint": seconds}}, step)

    def memory(self, step: int, by_rank: list[int], reserved: int | None) -> None:
        """Log the ranks' peaks so far; `reserved` is what PyTorch has reserved on the leading rank's GPU."""
        values = {"step": step, "memory_bytes": sum(by_rank), "most_memory_bytes_of_a_rank": max(by_rank)}
        self._log(values | ({"reserved_memory_bytes": reserved} if reserved is not None else {}), step)

    def describe(self, activity: str) -> None:
        """Set the description of the progress bar."""
        self._bar.update(self._task, description=activity)

    def close(self) -> None:
        """Flush and close the logs."""
        self._lines.close()
        if self._board is not None:
            with self._going_on("TensorBoard's events"):
                self._board.close()

    def _time_left(self, step: int) -> str:
        """By the pace of this start so far, validation and checkpoints included."""
        done, left = step - self._began_at, self._total_steps - step
        seconds = (time.monotonic() - self._began) / done * left if done else 0.0
        return f", {human_seconds(seconds)} left" if seconds else ""

    def _is_typical(self, step: int, timing: Timing) -> bool:
        return timing.is_full and not timing.is_traced and step - self._began_at > FIRST_STEPS

    def _say(self, record: dict[str, Any], measured: dict[str, Any]) -> None:
        loss = "not finite" if record["loss"] is None else f"{record['loss']:.3f}"
        speed = f"{human_count(measured['tokens_per_second'])} tokens/s"
        if measured["mfu"]:
            speed += f" {measured['mfu']:.0%} MFU"
        if measured["of_predicted"]:
            speed += f" {measured['of_predicted']:.2f}× the planned step"
        self._bar.update(self._task, completed=record["step"], loss=loss, speed=speed)
        self._said = f"loss {loss}, {human_seconds(measured['seconds'])} a step, {speed}"

    def _log(self, values: dict[str, Any], step: int) -> None:
        with self._going_on(METRICS):
            _add_line(self._lines, json.dumps(values).encode() + b"\n")
        if self._board is None:
            return
        scalars = {f"phases/{name}": seconds for name, seconds in values.get("phases", {}).items()} | values
        board, self._board = self._board, None  # once a writer has failed, it fails for good
        with self._going_on("TensorBoard's events"):
            for name, value in scalars.items():
                if isinstance(value, (int, float)) and name not in ("step", "is_typical"):
                    board.add_scalar(name, value, step)
            self._board = board

    @contextmanager
    def _going_on(self, what: str) -> Iterator[None]:
        """Say once that a log cannot be written, and train on: it holds nothing that a run goes on from."""
        try:
            yield
        except Exception as error:
            limit = limit_reached(error)
            if limit is None:
                raise
            if not self._is_cut_off:
                note(f"{what} cannot be written: {limit.what} Training goes on without.")
            self._is_cut_off = True


@contextmanager
def watch(logs: Path, yardsticks: Yardsticks, *, total_steps: int, step: int) -> Iterator[Monitor]:
    """A Monitor of a run that has `step` of `total_steps` steps behind it."""
    with progress(*COLUMNS) as bar:
        task = bar.add_task("Training", total=total_steps, completed=step, loss="–", validation="–", speed="")
        monitor = Monitor(logs, bar, task, yardsticks, step, total_steps)
        try:
            yield monitor
        finally:
            monitor.close()


def measured_steps(logs: Path) -> dict[str, Any]:
    """The timing of the whole run by `metrics.jsonl`, earlier attempts included.

    step_seconds is the median over the full-sized steps without the first few of each start and those that were
    trace_step; `seconds` is the sum over all steps, `phases` the seconds of each phase.
    """
    records = [json.loads(line) for line in (logs / METRICS).read_text().splitlines()]
    steps = [record for record in records if "seconds" in record]
    largest = max((record["tokens_in_step"] for record in steps), default=0)
    typical = [record["seconds"] for record in steps if record["is_typical"]]
    typical = typical or [record["seconds"] for record in steps if record["tokens_in_step"] == largest]
    phases: dict[str, float] = {}
    for record in records:
        for name, seconds in record.get("phases", {}).items():
            phases[name] = phases.get(name, 0.0) + seconds
    return {
        "step_seconds": statistics.median(typical) if typical else None,
        "seconds": sum(record["seconds"] for record in steps),
        "phases": phases,
    }


def compared(predicted: Mapping[str, float], measured: Mapping[str, float | None]) -> dict[str, dict[str, float]]:
    """Predicted, measured and their ratio for each figure that has both, for calibration."""
    pairs = {name: (predicted.get(name), value) for name, value in measured.items()}
    return {
        name: {"predicted": planned, "measured": value, "measured_over_predicted": value / planned}
        for name, (planned, value) in pairs.items()
        if planned and value
    }


def _add_line(file: FileIO, line: bytes) -> None:
    """Write a line at the end, or none of it. Raises OSError."""
    end = file.seek(0, os.SEEK_END)
    try:
        if file.write(line) == len(line):
            return
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        file.truncate(end)
        raise


def _forget_after(path: Path, step: int) -> None:
    """Drop the lines of steps that will be taken again, and a line that a kill cut short."""
    if not path.is_file():
        return
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("}\n")]
    with whole(path) as temporary:
        temporary.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))
