"""GPTs of 124M to 7B parameters on one GPU: speed, utilisation, memory against the planner, and bf16 against fp32.

Each step is the training loop's own (`megalith.training.step.take_step`), in bf16, in the micro-batch and with the
recomputation that the planner chooses for the card, with eager and with compiled layers. Utilisation (MFU) is
`arithmetic.flops_per_token` × tokens a second over the datasheet's dense bf16 peak, or over a measured product where
the card is not known. Then 20 steps in bf16 are held against the same 20 in fp32. Everything ends within `--seconds`:
what there is no time for is left out and said to be. Prints tables and writes `results/train_gpu.json`; without a GPU
it says so and ends with 2. docs/benchmarks.md says how to read them.

    python benchmarks/train_gpu.py --predict    # the planner's figures for A100, H100 and H200; needs no GPU
    python benchmarks/train_gpu.py [--shapes 124M 350M 1.3B 7B 7B/2] [--modes eager compiled] [--seconds 600]
    python benchmarks/train_gpu.py --device cpu --shapes tiny    # tries the path, measures nothing of worth
"""

import argparse
import gc
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, begin, machine, recipe_of, write_results, write_tokens
from gpu_shapes import PREDICTED_ON, SHAPES, Shape, constants, one_of, predict, show_predicted

from megalith.arithmetic import flops_per_token, parameters
from megalith.console import human_bytes, human_count, human_seconds, note, show, table
from megalith.machine import accelerators
from megalith.parallel import Mesh
from megalith.parallel.mesh import own_device
from megalith.planning.measuring.accelerator_layouts import node_of_card
from megalith.planning.measuring.step_times import time_product
from megalith.topology import Cluster
from megalith.training.data import batches
from megalith.training.device import set_up, settle_allocator
from megalith.training.step import take_step

WARM, STEPS, ROUNDS = 3, 4, 3
LOSS_STEPS, LOSS_SEQUENCES = 20, 8
LOSS_TOLERANCE = 2.0**-8  # relative: a bf16 number's own error
NO_GPU = 2


def measure(shape: Shape, planned: dict[str, Any], mode: str, tokens: Path, device: torch.device) -> dict[str, Any]:
    """Seconds of a step, and the most memory that was taken since before the model was made."""
    forget(device)
    steps = WARM + STEPS * ROUNDS
    recipe = recipe_of(
        shape.model,
        training(shape, planned["micro_batch_size"], steps, "bf16", mode),
        {"recompute": planned["recompute"], "recompute_every": planned["recompute_every"]},
    )
    set_up(recipe, device)
    run = begin(recipe, tokens, Mesh(device=device))
    plan = batches(recipe.train, shape.length)
    for batch in itertools.islice(plan, WARM):
        take_step(run, batch)
    seconds = []
    for _ in range(ROUNDS):
        wait_for(device)
        start = time.perf_counter()
        for batch in itertools.islice(plan, STEPS):
            take_step(run, batch)
        wait_for(device)
        seconds.append((time.perf_counter() - start) / STEPS)
    on_gpu = device.type == "cuda"
    return {
        "step_seconds": statistics.median(seconds),
        "all_step_seconds": seconds,
        "tokens_per_second": shape.batch * shape.length / statistics.median(seconds),
        "allocated_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else None,
        "reserved_bytes": torch.cuda.max_memory_reserved(device) if on_gpu else None,
    }


def losses(shape: Shape, precision: str, mode: str, tokens: Path, device: torch.device) -> list[float]:
    """The loss of each of the first steps, of a few sequences each."""
    forget(device)
    few = Shape(**{**vars(shape), "batch": min(LOSS_SEQUENCES, shape.batch)})
    recipe = recipe_of(few.model, training(few, min(2, few.batch), LOSS_STEPS, precision, mode))
    set_up(recipe, device)
    run = begin(recipe, tokens, Mesh(device=device))
    return [float(take_step(run, batch)["loss"]) for batch in batches(recipe.train, few.length)]


def training(shape: Shape, micro_batch: int, steps: int, precision: str, mode: str) -> dict[str, Any]:
    """A train section."""
    return {
        "tokens": steps * shape.batch * shape.length,
        "global_batch_size": shape.batch,
        "micro_batch_size": micro_batch,
        "precision": precision,
        "compile": mode == "compiled",
    }


def wait_for(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget(device: torch.device) -> None:
    """Give back what the model before has left: its memory and its compiled layers."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def planned_on(card: Cluster | None, shape: Shape) -> dict[str, Any]:
    """The planner's row; for a processor a micro-batch alone."""
    if card is None:
        return {"fits": True, "micro_batch_size": min(2, shape.batch), "recompute": "none", "recompute_every": 1}
    return predict(card, shape)


def speed(
    shape: Shape, planned: dict[str, Any], mode: str, tokens: Path, device: torch.device, peak: float
) -> dict[str, Any]:
    """A row of the first table: what was measured, and what had been predicted."""
    row = {
        "shape": shape.name,
        "parameters": parameters(shape.model).total,
        "mode": mode,
        "micro_batch_size": planned.get("micro_batch_size"),
        "recompute": planned.get("recompute"),
        "predicted": planned,
    }
    if not planned["fits"]:
        return row | {"left_out": f"takes {human_bytes(planned['least_bytes'])} at least, by the planner"}
    note(f"{shape.name}, {mode}")
    try:
        row |= measure(shape, planned, mode, tokens, device)
    except torch.OutOfMemoryError:
        return row | {"left_out": "out of memory, against the planner's word"}
    row["mfu"] = flops_per_token(shape.model) * row["tokens_per_second"] / peak
    compared = {name: row[name] / planned[name] for name in ("step_seconds", "allocated_bytes", "reserved_bytes")
                if row.get(name) and planned.get(name)}  # fmt: skip
    return row | {"measured_over_predicted": compared}


def agreement(shape: Shape, mode: str, tokens: Path, device: torch.device) -> dict[str, Any]:
    """How far bf16 is from eager fp32."""
    note(f"{shape.name}, losses")
    wide = losses(shape, "fp32", "eager", tokens, device)
    narrow = losses(shape, "bf16", mode, tokens, device)
    apart = max(abs(one / other - 1) for one, other in zip(narrow, wide, strict=True))
    return {
        "shape": shape.name, "bf16_mode": mode, "largest_relative_difference": apart,
        "within_tolerance": apart <= LOSS_TOLERANCE, "fp32": wide, "bf16": narrow,
    }  # fmt: skip


def run_all(said: argparse.Namespace, device: torch.device, card: Cluster | None) -> dict[str, Any]:
    """Every row that there is time for: a shape is begun while as long as the slowest so far is left."""
    start = time.monotonic()
    longest = 0.0
    speeds: list[dict[str, Any]] = []
    agreements: list[dict[str, Any]] = []
    peak, source = peak_of(card, device)
    asked = [shape for shape in SHAPES if shape.name in said.shapes]

    def has_time() -> bool:
        return time.monotonic() - start + longest <= said.seconds

    with tempfile.TemporaryDirectory() as folder:
        for shape in asked:
            tokens = write_tokens(Path(folder) / shape.name.replace("/", "-"), shape.vocab, 2000 * shape.length)
            planned = planned_on(card, shape)
            for mode in said.modes:
                begun = time.monotonic()
                if has_time():
                    speeds.append(speed(shape, planned, mode, tokens, device, peak))
                else:
                    speeds.append({"shape": shape.name, "mode": mode, "left_out": f"no time within {said.seconds:g} s"})
                longest = max(longest, time.monotonic() - begun)
        for shape in asked:
            if shape.losses and has_time():
                tokens = Path(folder) / shape.name.replace("/", "-")
                agreements.append(agreement(shape, said.modes[-1], tokens, device))
    return {
        "machine": machine() | told_of(device) | {"peak_flops_per_second": peak, "peak_is": source},
        "settings": {"shapes": said.shapes, "modes": said.modes, "seconds": said.seconds, "device": said.device},
        "seconds": time.monotonic() - start,
        "speeds": speeds,
        "losses": agreements,
    }


def peak_of(card: Cluster | None, device: torch.device) -> tuple[float, str]:
    """The peak that utilisation is a share of, and its source."""
    if card is not None and card.facts is not None:
        return card.facts.peak("bf16"), "datasheet"
    return time_product("bf16", device)["flops_per_second"], "measured product"


def told_of(device: torch.device) -> dict[str, Any]:
    """The GPU, if it is one."""
    if device.type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(device)
    return {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory, "cuda": torch.version.cuda}


def show_tables(found: dict[str, Any]) -> None:
    cells = []
    for row in found["speeds"]:
        start = [row["shape"], row["mode"]]
        if "left_out" in row:
            cells.append([*start, "", row["left_out"], "", "", "", ""])
            continue
        compared = row["measured_over_predicted"]
        cells.append(
            [
                *start, f"{row['micro_batch_size']}, {row['recompute']}", human_seconds(row["step_seconds"]),
                human_count(row["tokens_per_second"]), f"{row['mfu']:.1%}",
                "–" if row["allocated_bytes"] is None else human_bytes(row["allocated_bytes"]),
                ", ".join(f"{ratio:.2f}" for ratio in compared.values()) or "–",
            ]
        )  # fmt: skip
    headings = ["shape", "layers", "micro-batch, recompute", "step", "tokens/s", "MFU", "allocated",
                "over predicted (step, allocated, reserved)"]  # fmt: skip
    show(table("bf16 on one device", headings, cells, left=3))
    rows = [
        [row["shape"], f"{row['fp32'][0]:.4f}", f"{row['fp32'][-1]:.4f}", f"{row['bf16'][-1]:.4f}",
         f"{row['largest_relative_difference']:.2e}", "yes" if row["within_tolerance"] else "NO"]
        for row in found["losses"]
    ]  # fmt: skip
    headings = ["shape", "fp32, first", "fp32, last", "bf16, last", "most apart", f"within {LOSS_TOLERANCE:.1e}"]
    show(table(f"The loss of {LOSS_STEPS} steps in bf16 and in fp32", headings, rows))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [shape.name for shape in SHAPES]
    parser.add_argument("--shapes", nargs="+", choices=names, default=[name for name in names if name != "tiny"])
    parser.add_argument("--modes", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"])
    parser.add_argument("--seconds", type=float, default=600.0, help="that all of it may take")
    parser.add_argument("--predict", action="store_true", help="the planner's figures alone")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of train_gpu.json")
    said = parser.parse_args()
    if said.predict:
        asked = [shape for shape in SHAPES if shape.name in said.shapes]
        rows = [predict(one_of(cluster), shape) for cluster in PREDICTED_ON for shape in asked]
        show_predicted(rows)
        write_results(said.results, "train_gpu_predicted", {"constants": constants(), "rows": rows})
        return 0
    found = accelerators()
    if said.device == "cuda" and found is None:
        note("There is no CUDA device here, so nothing is measured. (--predict needs none; --device cpu --shapes tiny "
             "tries the path.)")  # fmt: skip
        return NO_GPU
    settle_allocator()
    device = own_device() if said.device == "cuda" else torch.device("cpu")
    card = node_of_card(found) if said.device == "cuda" and found is not None else None
    measured = run_all(said, device, card)
    show_tables(measured)
    write_results(said.results, "train_gpu", measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
