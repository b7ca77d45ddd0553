"""Two processes of one thread each against one: the step time of each layout, and where the rest went.

All train the same GPT with the loop's own step (`megalith.training.step.take_step`), on two processes that meet over
gloo, one layout after another, in several rounds. Tensor and pipeline layouts share one batch (strong scaling:
efficiency t₁ / 2t₂), data-parallel ones have a batch of t₁'s size each (weak scaling: t₁ / t₂). Two processes that know
nothing of each other, side by side, show what the machine itself takes. Prints a table for each precision and writes
`results/parallel_cpu.json`; docs/benchmarks.md says how to read them.

    python benchmarks/parallel_cpu.py [--layers 6 --hidden 384 --heads 6 --length 256 --vocab 8192]
        [--batch 16 --micro-batch 2] [--precisions fp32 bf16] [--rounds 3 --steps 2]
"""

import argparse
import gc
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from common import RESULTS, begin, machine, recipe_of, write_results, write_tokens
from timed_gloo import CALLS, TIMED, Call, register
from torch.profiler import ProfilerActivity, profile

from megalith.arithmetic import flops_per_token
from megalith.console import human_seconds, note, show, table
from megalith.parallel import Mesh, build_mesh, compute_deterministically
from megalith.processes import wait_politely
from megalith.recipe import ModelConfig
from megalith.training.data import batches
from megalith.training.step import take_step

WARM = 1  # steps that allocate memory
WORLD = 2
SHARES = ("efficiency", "machine", "waiting", "collectives", "point to point", "computing", "python")


@dataclass(frozen=True)
class Layout:
    """A layout that is timed."""

    name: str
    processes: int = WORLD
    parallel: tuple[tuple[str, Any], ...] = ()
    """Overrides of the recipe's section `parallel`; empty where the processes know nothing of each other."""

    @property
    def scaling(self) -> str:
        return "weak" if not self.parallel or ("data", WORLD) in self.parallel else "strong"

    @property
    def share(self) -> float:
        """Share of the one process's work that each process does."""
        return 1.0 if self.scaling == "weak" else 1 / WORLD


ONE, APART = Layout("one process", processes=1), Layout("two, apart")
LAYOUTS = (
    ONE,
    APART,
    Layout("tensor 2", parallel=(("tensor", 2),)),
    Layout("tensor 2, sequence", parallel=(("tensor", 2), ("sequence_parallel", True))),
    Layout("pipeline 2, 1f1b", parallel=(("pipeline", 2), ("schedule", "1f1b"))),
    Layout("pipeline 2, zb-h1", parallel=(("pipeline", 2), ("schedule", "zb-h1"))),
    Layout("data 2", parallel=(("data", 2),)),
    Layout("data 2, zero 3", parallel=(("data", 2), ("zero", 3))),
)


@dataclass
class Step:
    """One step of one rank; clocks are the machine's, so that those of two ranks can be compared."""

    start: float
    end: float
    calls: list[Call]
    operations_seconds: float | None
    """Inside torch's operations, without what they wait for; None where no profiler ran."""


@dataclass(frozen=True)
class Spent:
    """Where the seconds of a step went, a mean over ranks and steps."""

    whole: float
    waiting: float
    """For the other rank to come to the same call."""
    collectives: float
    point_to_point: float
    computing: float
    python: float


def work(rank: int, said: argparse.Namespace, folder: str) -> None:
    """Take the steps of every layout, and leave them in `folder`."""
    torch.set_num_threads(1)
    compute_deterministically()
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    register()
    dist.init_process_group(TIMED, init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    arranged: dict[Layout, Mesh] = {}
    taken: dict[str, dict[str, list[Step]]] = {}
    for precision in said.precisions:
        found = taken[precision] = {layout.name: [] for layout in LAYOUTS}
        for number in range(said.rounds):
            if rank == 0:
                note(f"{precision}: round {number + 1} of {said.rounds}")
            for layout in LAYOUTS:
                dist.barrier()
                if rank >= layout.processes:
                    continue
                if layout.parallel and layout not in arranged:
                    arranged[layout] = build_mesh(Mesh(rank, WORLD), recipe_for(said, layout, precision).parallel)
                found[layout.name] += take_steps(said, layout, precision, arranged.get(layout, Mesh()), Path(folder))
                gc.collect()
    (Path(folder) / f"{rank}.json").write_text(json.dumps(taken, default=asdict))
    dist.barrier()
    sys.stderr.flush()
    os._exit(0)  # torch's teardown of many groups takes longer than the work


def take_steps(said: argparse.Namespace, layout: Layout, precision: str, ranks: Mesh, folder: Path) -> list[Step]:
    """Steps after the warm ones; the last with the profiler on."""
    recipe = recipe_for(said, layout, precision)
    run = begin(recipe, folder, ranks)
    steps = []
    for batch in batches(recipe.train, said.length):
        CALLS.clear()
        if batch.step <= WARM + said.steps:
            start = time.perf_counter()
            take_step(run, batch)
            steps.append(Step(start, time.perf_counter(), list(CALLS), None))
        else:
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                start = time.perf_counter()
                take_step(run, batch)
                end = time.perf_counter()
            steps.append(Step(start, end, list(CALLS), seconds_in_operations(profiled)))
    return steps[WARM:]


def recipe_for(said: argparse.Namespace, layout: Layout, precision: str) -> Any:
    """The layout's recipe: as many steps as are taken, and a batch for each data-parallel rank."""
    parallel = dict(layout.parallel)
    sequences = said.batch * parallel.get("data", 1)
    train = {
        "tokens": (WARM + said.steps + 1) * sequences * said.length,
        "global_batch_size": sequences,
        "micro_batch_size": said.micro_batch,
        "precision": precision,
    }
    return recipe_of(shape(said), train, parallel)


def shape(said: argparse.Namespace) -> ModelConfig:
    """The model that all of them train."""
    return ModelConfig(
        num_layers=said.layers,
        hidden_size=said.hidden,
        num_heads=said.heads,
        vocab_size=said.vocab,
        sequence_length=said.length,
    )


def seconds_in_operations(profiled: Any) -> float:
    """Seconds of the innermost ATen operations together: the rest of a step is Python, autograd and dispatch."""
    inner = (each for each in profiled.events() if each.name.startswith("aten::") and not each.cpu_children)
    return float(sum(each.time_range.elapsed_us() for each in inner)) / 1e6


def spent(ranks: Sequence[Sequence[Step]]) -> Spent:
    """Where the time went in the quieter half of the steps; `ranks` has the steps of each rank, in one order."""
    steps = list(zip(*ranks, strict=True))
    plain = [step for step in steps if step[0].operations_seconds is None]
    middle = statistics.median(length(step) for step in plain)
    quiet = [step for step in plain if length(step) <= middle]
    whole = statistics.mean(length(step) for step in quiet)
    parts = [blocked(step) for step in quiet]
    waiting, collectives, point_to_point = (statistics.mean(column) for column in zip(*parts, strict=True))
    shares = [
        statistics.mean(rank.operations_seconds or 0.0 for rank in step) / (length(step) - sum(blocked(step)))
        for step in steps
        if step[0].operations_seconds is not None
    ]
    own = whole - waiting - collectives - point_to_point
    computing = own * min(1.0, statistics.median(shares))
    return Spent(whole, waiting, collectives, point_to_point, computing, own - computing)


def length(step: Sequence[Step]) -> float:
    """Seconds of one step, a mean over its ranks."""
    return statistics.mean(rank.end - rank.start for rank in step)


def blocked(step: Sequence[Step]) -> tuple[float, float, float]:
    """Seconds in which a rank stood still: until the other one came to the same call, then in collectives, in sends.

    A mean over the ranks. A call begins for both when the later one makes it.
    """
    matched: list[dict[Any, Call]] = []
    for rank, own in enumerate(step):
        seen: Counter[Any] = Counter()
        found = {}
        for call in own.calls:
            kind = ("from", rank if call.kind == "send" else 1 - rank) if call.is_point_to_point else call.group
            found[kind, seen[kind]] = call
            seen[kind] += 1
        matched.append(found)
    waiting = collectives = point_to_point = 0.0
    for rank, own in enumerate(matched):
        for key, call in own.items():
            if call.waited_from is None or call.waited_until is None:
                continue  # nobody waited for it
            other = matched[1 - rank].get(key) if len(matched) > 1 else None
            begun = call.waited_from if other is None else max(call.waited_from, other.posted)
            begun = min(begun, call.waited_until)
            waiting += begun - call.waited_from
            if call.is_point_to_point:
                point_to_point += call.waited_until - begun
            else:
                collectives += call.waited_until - begun
    count = len(step)
    return waiting / count, collectives / count, point_to_point / count


def shares(layout: Layout, found: Spent, one: Spent, apart: Spent) -> dict[str, float]:
    """Shares of the layout's step time, by SHARES; they add up to 1.

    `machine` is what the same work takes longer because the other core is busy; `computing` and `python` are what goes
    beyond that work. A share may be negative: smaller tensors fit a cache better.
    """
    part = layout.share
    seconds = {
        "efficiency": part * one.whole,
        "machine": part * (apart.whole - one.whole),
        "waiting": found.waiting,
        "collectives": found.collectives,
        "point to point": found.point_to_point,
        "computing": found.computing - part * apart.computing,
        "python": found.python - part * apart.python,
    }
    return {name: each / found.whole for name, each in seconds.items()}


def report(precision: str, steps: Sequence[dict[str, list[Step]]], said: argparse.Namespace) -> list[dict[str, Any]]:
    """Show a table, and give its rows."""
    times = {layout: spent([rank[layout.name] for rank in steps[: layout.processes]]) for layout in LAYOUTS}
    one, apart = times[ONE], times[APART]
    flops = flops_per_token(shape(said)) * said.batch * said.length
    rows: list[dict[str, Any]] = []
    for layout, found in times.items():
        own = [rank[layout.name] for rank in steps[: layout.processes]]
        parts = shares(layout, found, one, apart) if layout is not ONE else {}
        rows.append(
            {
                "precision": precision,
                "layout": layout.name,
                "processes": layout.processes,
                "scaling": layout.scaling,
                "step_seconds": found.whole,
                "flops_per_second": flops / found.whole * (layout.processes if layout.scaling == "weak" else 1),
                "efficiency_against_apart": layout.share * apart.whole / found.whole,
                "shares": parts,
                "all_step_seconds": [length(step) for step in zip(*own, strict=True)],
            }
        )
    headings = ["", "scaling", "step", "of apart", *SHARES]
    cells = [
        [
            row["layout"],
            row["scaling"] if row["shares"] else "",
            human_seconds(row["step_seconds"]),
            f"{row['efficiency_against_apart']:.0%}" if row["shares"] else "",
            *(f"{row['shares'][name]:.1%}" if row["shares"] else "" for name in SHARES),
        ]
        for row in rows
    ]
    title = f"{precision}: {said.batch} sequences of {said.length} tokens, micro-batches of {said.micro_batch}"
    show(table(f"{title}; shares of the step", headings, cells, left=2))
    return rows


def read_steps(path: Path) -> dict[str, dict[str, list[Step]]]:
    """The results that a rank has left, by precision and layout."""
    return {
        precision: {
            name: [Step(**(each | {"calls": [Call(**call) for call in each["calls"]]})) for each in steps]
            for name, steps in layouts.items()
        }
        for precision, layouts in json.loads(path.read_text()).items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"layers": 6, "hidden": 384, "heads": 6, "length": 256, "vocab": 8192, "batch": 16, "micro-batch": 2}
    for name, default in (sizes | {"rounds": 3, "steps": 2}).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of parallel_cpu.json")
    said = parser.parse_args()
    wait_politely()
    os.environ |= {
        "KINETO_LOG_LEVEL": "99",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
    }
    with tempfile.TemporaryDirectory() as folder:
        write_tokens(Path(folder), said.vocab, 4 * said.batch * said.length)
        mp.start_processes(work, (said, folder), nprocs=WORLD, start_method="spawn")
        ranks = [read_steps(Path(folder) / f"{rank}.json") for rank in range(WORLD)]
    rows = []
    for precision in said.precisions:
        rows += report(precision, [rank[precision] for rank in ranks], said)
    settings = {name: value for name, value in vars(said).items() if name != "results"}
    write_results(said.results, "parallel_cpu", {"machine": machine(), "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
