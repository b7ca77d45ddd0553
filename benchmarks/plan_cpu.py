"""The closed loop on this machine: predicted against measured step time of six layouts.

Two things are done in turns for several rounds, so that a slow minute hits all alike. The machine is measured in blocks
(`planning.measuring.measure`, what `megalith plan calibrate --measure` does). And the training loop's own steps are
taken in real processes over gloo, some seconds of each layout; of a step the slowest rank counts, of the steps the
median of the faster half, as with blocks. What has waited for its turn first works for a second that does not count.
Then each layout's step is composed of the blocks; nothing is fitted to the steps. Prints a table and writes
`results/plan_cpu.json`; docs/how-this-machine-is-measured.md says how to read it.

    python benchmarks/plan_cpu.py [--recipe quickstart] [--set train.global_batch_size=32 …] [--micro-batch 4]
        [--precision bf16] [--rounds 3 --seconds 2]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import RESULTS, machine, recipe_of, write_results, write_tokens

from megalith.console import human_seconds, note, show, table
from megalith.job import Job, Zero
from megalith.machine import usable_cores
from megalith.planning.budget import sized
from megalith.planning.measuring.compose import BlockStep, predict_here
from megalith.planning.measuring.machine_file import BlockTable
from megalith.planning.measuring.measure import measuring
from megalith.planning.measuring.timings import undisturbed
from megalith.planning.measuring.workers import Workers, start_workers
from megalith.recipe import ModelConfig, load_recipe
from megalith.topology import Layout, this_machine

STEPS = 100_000  # of the schedule: more than are taken


@dataclass(frozen=True)
class Case:
    """A layout of the table."""

    name: str
    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    zero: Zero = 0

    @property
    def processes(self) -> int:
        return self.tensor * self.pipeline * self.data


CASES = (
    Case("one process"),
    Case("tensor 2", tensor=2),
    Case("pipeline 2", pipeline=2),
    Case("data 2", data=2),
    Case("tensor 2 × pipeline 2", tensor=2, pipeline=2),
    Case("data 2, zero 3", data=2, zero=3),
)


def job_of(case: Case, model: ModelConfig, batch: int, said: argparse.Namespace) -> Job:
    """The case as the planner is asked about it."""
    return Job(
        model=model,
        cluster=this_machine(),
        layout=Layout(case.tensor, case.pipeline, case.data),
        micro_batch_size=said.micro_batch,
        global_batch_size=batch,
        zero=case.zero,
        precision=said.precision,
    )


def take_rounds(jobs: dict[Case, Job], said: argparse.Namespace) -> tuple[BlockTable, dict[Case, list[float]]]:
    """The measured machine, and seconds of each step of each case, of the slowest rank: a pass, a round, in turns."""
    found: dict[Case, list[float]] = {case: [] for case in jobs}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        job = jobs[CASES[0]]
        write_tokens(Path(folder), job.model.vocab_size, 4 * job.global_batch_size * job.model.sequence_length)
        measurement = stack.enter_context(measuring(list(jobs.values())))
        worlds: dict[int, Workers] = {
            processes: stack.enter_context(start_workers(processes, "plan_cpu_worker"))
            for processes in sorted({case.processes for case in jobs})
        }
        for number in range(said.rounds):
            note(f"round {number + 1} of {said.rounds}, load {os.getloadavg()[0]:.1f}")
            measurement.take_pass()
            for case, own in jobs.items():
                answers = worlds[case.processes].ask(question(case, own, folder, said), case.processes)
                found[case] += [max(step) for step in zip(*(each["seconds"] for each in answers), strict=True)]
    return measurement.table(), found


def question(case: Case, job: Job, folder: str, said: argparse.Namespace) -> dict[str, Any]:
    """A question to the workers."""
    train = {
        "tokens": STEPS * job.global_batch_size * job.model.sequence_length,
        "global_batch_size": job.global_batch_size,
        "micro_batch_size": job.micro_batch_size,
        "precision": job.precision,
    }
    return {
        "layout": case.name,
        "recipe": recipe_of(job.model, train, job.parallel.model_dump(mode="json")).model_dump(mode="json"),
        "tokens": folder,
        "threads": max(1, usable_cores() // case.processes),
        "seconds": said.seconds,
    }


def rows_of(predicted: dict[Case, BlockStep], measured: dict[Case, list[float]]) -> list[dict[str, Any]]:
    """A row a case, for the table and the file."""
    return [
        {
            "layout": case.name,
            "processes": case.processes,
            "predicted_seconds": step.seconds,
            "interval": list(step.interval),
            "measured_seconds": undisturbed(measured[case]),
            "predicted_over_measured": step.seconds / undisturbed(measured[case]),
            "within_interval": step.interval[0] <= undisturbed(measured[case]) <= step.interval[1],
            "parts": dict(step.parts),
            "all_step_seconds": measured[case],
        }
        for case, step in predicted.items()
    ]


def report(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Show the table."""
    cells = [
        [
            row["layout"],
            str(row["processes"]),
            human_seconds(row["predicted_seconds"]),
            " … ".join(human_seconds(bound) for bound in row["interval"]),
            human_seconds(row["measured_seconds"]),
            f"{row['predicted_over_measured'] - 1:+.1%}",
        ]
        for row in rows
    ]
    show(table(title, ["", "processes", "predicted", "interval", "measured", "error"], cells, left=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="quickstart", help="a sized recipe, or one whose budget sizes it")
    parser.add_argument("--set", nargs="*", default=["budget.flops=2e13"], metavar="KEY=VALUE", help="changes of it")
    parser.add_argument("--micro-batch", type=int, default=4)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each layout in each round")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of plan_cpu.json")
    said = parser.parse_args()
    recipe, _ = load_recipe(said.recipe, said.set)
    model = sized(recipe).model
    jobs = {case: job_of(case, model, recipe.train.global_batch_size, said) for case in CASES}
    begun, load = time.perf_counter(), os.getloadavg()
    measured_machine, steps = take_rounds(jobs, said)
    rows = rows_of({case: predict_here(job, measured_machine) for case, job in jobs.items()}, steps)
    shape = f"{model.layers} layers, hidden {model.hidden}, {recipe.train.global_batch_size} × {model.sequence_length}"
    report(f"A step of {said.recipe} ({shape} tokens), {said.precision}", rows)
    worst = max(abs(row["predicted_over_measured"] - 1) for row in rows)
    taken = human_seconds(time.perf_counter() - begun)
    note(f"the largest error is {worst:.1%}; load {load[0]:.1f} before, {os.getloadavg()[0]:.1f} after, {taken}")
    settings = {name: value for name, value in vars(said).items() if name != "results"}
    figures = {"machine": machine(), "settings": settings, "load": [load[0], os.getloadavg()[0]], "rows": rows}
    write_results(said.results, "plan_cpu", {**figures, "blocks": measured_machine.model_dump(mode="json")})


if __name__ == "__main__":
    main()
