"""What is seen of a run: a progress bar, TensorBoard scalars and `metrics.jsonl`, from the leading rank alone.

Model FLOPs utilisation is arithmetic.flops_per_token × tokens per second ÷ the machine's peak; the FLOPs are those of
matrix products, attention counted as if it were not causal.
"""

import json
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import Progress as Bar
from rich.progress import TaskID
from torch.utils.tensorboard import SummaryWriter

from megalith.console import human_count, progress

METRICS = "metrics.jsonl"
FIRST_STEPS = 3  # allocate memory and choose kernels; not typical
COLUMNS = ("loss [bold]{task.fields[loss]}[/]", "valid {task.fields[validation]}", "{task.fields[speed]}")


class Monitor:
    """The eyes on one run."""

    def __init__(
        self, logs: Path, bar: Bar, task: TaskID, flops_per_token: float, peak: float | None, step: int
    ) -> None:
        self._flops_per_token, self._peak = flops_per_token, peak
        self._bar, self._task = bar, task
        _forget_after(logs / METRICS, step)
        self._lines = (logs / METRICS).open("a")
        self._board = SummaryWriter(str(logs / "tensorboard"), purge_step=step + 1)

    def step(self, record: dict[str, Any], tokens_in_step: int, seconds: float) -> None:
        """Show and log one step; `record` is its line of the history."""
        speed = tokens_in_step / seconds
        utilisation = self._flops_per_token * speed / self._peak if self._peak else None
        measured = {
            "tokens_in_step": tokens_in_step,
            "seconds": seconds,
            "tokens_per_second": speed,
            "mfu": utilisation,
        }
        self._log(record | measured, record["step"])
        loss = "not finite" if record["loss"] is None else f"{record['loss']:.3f}"
        share = f" {utilisation:.0%} MFU" if utilisation else ""
        self._bar.update(self._task, completed=record["step"], loss=loss, speed=f"{human_count(speed)} tokens/s{share}")

    def validation(self, record: dict[str, Any]) -> None:
        """Show and log one measurement of the validation loss."""
        self._log({"step": record["step"], "validation_loss": record["loss"]}, record["step"])
        self._bar.update(self._task, validation=f"{record['loss']:.3f}")

    def describe(self, what: str) -> None:
        """Say what is being done."""
        self._bar.update(self._task, description=what)

    def close(self) -> None:
        """Write out what is held back."""
        self._lines.close()
        self._board.close()

    def _log(self, values: dict[str, Any], step: int) -> None:
        self._lines.write(json.dumps(values) + "\n")
        self._lines.flush()
        for name, value in values.items():
            if name != "step" and value is not None:
                self._board.add_scalar(name, value, step)


@contextmanager
def watch(
    logs: Path, flops_per_token: float, peak_flops_per_second: float | None, *, total_steps: int, step: int
) -> Iterator[Monitor]:
    """A Monitor of a run that has `step` of `total_steps` steps behind it."""
    with progress(*COLUMNS) as bar:
        task = bar.add_task("Training", total=total_steps, completed=step, loss="–", validation="–", speed="")
        monitor = Monitor(logs, bar, task, flops_per_token, peak_flops_per_second, step)
        try:
            yield monitor
        finally:
            monitor.close()


def measured_steps(logs: Path) -> dict[str, float | None]:
    """What `metrics.jsonl` says of the whole run, earlier attempts included.

    step_seconds is the median over the full-sized steps without the first few; seconds is the sum over all steps.
    """
    records = [json.loads(line) for line in (logs / METRICS).read_text().splitlines()]
    steps = [record for record in records if "seconds" in record]
    largest = max((record["tokens_in_step"] for record in steps), default=0)
    full = [record["seconds"] for record in steps if record["tokens_in_step"] == largest]
    typical = full[FIRST_STEPS:] or full
    total = sum(record["seconds"] for record in steps)
    return {"step_seconds": statistics.median(typical) if typical else None, "seconds": total}


def _forget_after(path: Path, step: int) -> None:
    """Drop the lines of steps that will be taken again, and a line that a kill cut short."""
    if not path.is_file():
        return
    whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("}\n")]
    kept = [line for line in whole if json.loads(line)["step"] <= step]
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(kept))
    temporary.replace(path)
