"""A study as a Slurm array: a file of commands, and the script that runs one line of it a task."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from megalith.study.cells import C, Command, prepare_cell
from megalith.study.design import Design
from megalith.study.ledger import collect
from megalith.study.running import command
from megalith.submission.slurm import batch_script
from megalith.submission.walk import LEAST_LEAD_SECONDS

COMMANDS, SCRIPT = "cells.txt", "cells.sbatch"


def write_array(directory: Path, plan: Design) -> Path:
    """Write the script for the cells that have no row yet, and return its path. `scaling study` then collects them."""
    done = {row["digest"] for row in collect(directory, plan)}
    cells = [cell for cell in plan.cells if cell.digest not in done]
    return write_tasks(directory, cells, command, "scaling study")


def write_tasks(
    directory: Path, cells: Sequence[C], command: Command[C], verb: str, *, tokens: str = "tokenize"
) -> Path:
    """Write the script of an array for that `verb`, one cell a task, and return its path."""
    for cell in cells:
        prepare_cell(cell, directory, tokens)
    (directory / COMMANDS).write_text("".join(f"{shlex.join(command(cell, directory))}\n" for cell in cells))
    commands = shlex.quote(str((directory / COMMANDS).absolute()))
    script = batch_script(
        [f"--job-name={verb.replace(' ', '-')}", "--ntasks=1", f"--array=1-{max(1, len(cells))}"],
        f"One cell a task. Written by `megalith {verb} --slurm`, which writes it again.",
        LEAST_LEAD_SECONDS,
        [f'srun --nodes=1 --ntasks=1 bash -c "$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {commands})"'],
    )
    (directory / SCRIPT).write_text(script, encoding="utf-8")
    return directory / SCRIPT
