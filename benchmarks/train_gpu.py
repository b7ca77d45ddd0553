"""GPTs of 124M, 350M and 1.3B parameters on one GPU: tokens a second, utilisation, memory, and bf16 against fp32.

Each step is the training loop's own (`megalith.training.step.take_step`), in bf16, with eager and with compiled layers.
Utilisation (MFU) is `arithmetic.flops_per_token` × tokens a second over the datasheet's dense bf16 peak, or over a
measured product where the card is not known. Then 20 steps in bf16 are held against the same 20 in fp32. Prints two
tables and writes `results/train_gpu.json`; without a GPU it says so and ends well. docs/benchmarks.md says how to read
them.

    python benchmarks/train_gpu.py [--models 124M 350M 1.3B] [--modes eager compiled] [--micro-batch N]
        [--recompute none|selective|full] [--length 1024]
    python benchmarks/train_gpu.py --device cpu --tiny    # tries the path, measures nothing of worth
"""

import argparse
import gc
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, begin, machine, recipe_of, write_results, write_tokens

from megalith.arithmetic import flops_per_token, parameters
from megalith.console import human_bytes, human_count, note, show, table
from megalith.machine import total_memory_bytes
from megalith.parallel import Mesh, compute_deterministically
from megalith.parallel.mesh import own_device
from megalith.planning.measuring.rates import best_seconds
from megalith.recipe import ModelConfig
from megalith.training.data import batches
from megalith.training.step import take_step

MODELS = {"124M": (12, 768, 12), "350M": (24, 1024, 16), "1.3B": (24, 2048, 16)}
"""Layers, hidden size, heads (GPT-3 table 2.1; 16 heads of 128 for 1.3B)."""
TINY = {"tiny": (2, 64, 2)}
VOCAB, TINY_VOCAB = 50257, 512
PEAKS = {"H200 NVL": 835e12, "H200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "A100": 312e12}
"""Dense bf16 FLOPs a second by a part of the card's name, the first that fits; NVIDIA's datasheets."""
WARM, LOSS_STEPS, LOSS_SEQUENCES = 3, 20, 8
STATE_BYTES = 20  # a parameter: bf16 weight and gradient; fp32 master, gradient and two moments
ACTIVATION_BYTES = {"none": 34, "selective": 34, "full": 2}
"""A token, hidden unit and layer, the core of attention left out, which never lies in memory (2205.05198 §4.1)."""
MOST_SEQUENCES, MEMORY_SHARE = 32, 0.7


def measure(config: ModelConfig, mode: str, micro_batch: int, said: argparse.Namespace, tokens: Path) -> dict[str, Any]:
    """Seconds of a step, and the most memory that was taken since before the model was made."""
    device = place(said)
    forget(device)
    sequences = micro_batch * said.micro_batches
    steps = WARM + said.steps * said.rounds
    recipe = recipe_of(
        config,
        training(sequences, micro_batch, steps * sequences * config.sequence_length, "bf16", mode),
        {"recompute": said.recompute},
    )
    run = begin(recipe, tokens, Mesh(device=device))
    plan = batches(recipe.train, config.sequence_length)
    for batch in itertools.islice(plan, WARM):
        take_step(run, batch)
    seconds = []
    for _ in range(said.rounds):
        wait_for(device)
        start = time.perf_counter()
        for batch in itertools.islice(plan, said.steps):
            take_step(run, batch)
        wait_for(device)
        seconds.append((time.perf_counter() - start) / said.steps)
    on_gpu = device.type == "cuda"
    return {
        "step_seconds": statistics.median(seconds),
        "all_step_seconds": seconds,
        "tokens_per_second": sequences * config.sequence_length / statistics.median(seconds),
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else None,
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(device) if on_gpu else None,
    }


def losses(config: ModelConfig, precision: str, mode: str, said: argparse.Namespace, tokens: Path) -> list[float]:
    """The loss of each of the first steps, of a few sequences each."""
    device = place(said)
    forget(device)
    sequences = min(LOSS_SEQUENCES, said.micro_batch or LOSS_SEQUENCES)
    count = LOSS_STEPS * sequences * config.sequence_length
    recipe = recipe_of(config, training(sequences, sequences, count, precision, mode), {"recompute": said.recompute})
    run = begin(recipe, tokens, Mesh(device=device))
    return [float(take_step(run, batch)["loss"]) for batch in batches(recipe.train, config.sequence_length)]


def training(sequences: int, micro_batch: int, tokens: int, precision: str, mode: str) -> dict[str, Any]:
    """A train section."""
    return {
        "tokens": tokens,
        "global_batch_size": sequences,
        "micro_batch_size": micro_batch,
        "precision": precision,
        "compile": mode == "compiled",
    }


def fitting_micro_batch(config: ModelConfig, memory_bytes: float, recompute: str) -> int:
    """The largest power of two, up to 32, whose activations fit beside the state of training."""
    sequence = config.layers * config.hidden * config.sequence_length * ACTIVATION_BYTES[recompute]
    left = MEMORY_SHARE * memory_bytes - STATE_BYTES * parameters(config).total
    size = MOST_SEQUENCES
    while size > 1 and size * sequence > left:
        size //= 2
    return size


def peak_flops_per_second(device: torch.device, tiny: bool) -> tuple[float, str]:
    """The peak that utilisation is a share of, and its source."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for part, peak in PEAKS.items():
            if part in name:
                return peak, "datasheet"
    return gemm_flops_per_second(device, 512 if tiny else 8192), "measured product"


def gemm_flops_per_second(device: torch.device, size: int) -> float:
    """The best rate of a square bf16 product."""
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    out = torch.empty_like(left)

    def multiply() -> None:
        torch.mm(left, right, out=out)
        wait_for(device)

    return 2 * size**3 / best_seconds(multiply, 1.0, least=10)


def place(said: argparse.Namespace) -> torch.device:
    return own_device() if said.device == "cuda" else torch.device(said.device)


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


def shapes(said: argparse.Namespace) -> dict[str, ModelConfig]:
    """The asked models, by name."""
    wanted = TINY if said.tiny else {name: MODELS[name] for name in said.models}
    return {
        name: ModelConfig(
            num_layers=layers,
            hidden_size=hidden,
            num_heads=heads,
            vocab_size=TINY_VOCAB if said.tiny else VOCAB,
            sequence_length=said.length,
        )
        for name, (layers, hidden, heads) in wanted.items()
    }


def card(device: torch.device) -> dict[str, Any]:
    """The GPU, if it is one."""
    if device.type != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(device)
    return {"gpu": properties.name, "gpu_memory_bytes": properties.total_memory, "cuda": torch.version.cuda}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--modes", nargs="+", choices=("eager", "compiled"), default=["eager", "compiled"])
    parser.add_argument("--micro-batch", type=int, help="sequences; default: what fits, up to 32")
    parser.add_argument("--micro-batches", type=int, default=2, help="of a step")
    parser.add_argument("--recompute", choices=("none", "selective", "full"), default="none")
    parser.add_argument("--length", type=int, help="tokens of a sequence; default 1024")
    parser.add_argument("--steps", type=int, default=8, help="of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model that any machine trains at once")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of train_gpu.json")
    said = parser.parse_args()
    said.length = said.length or (64 if said.tiny else 1024)
    if said.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here, so nothing is measured. (--device cpu --tiny tries the path.)")
        return
    compute_deterministically()  # as training does
    device = place(said)
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else total_memory_bytes()
    peak, source = peak_flops_per_second(device, said.tiny)
    speeds: list[dict[str, Any]] = []
    agreements: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        tokens = write_tokens(Path(folder), TINY_VOCAB if said.tiny else VOCAB, 2000 * said.length)
        for name, config in shapes(said).items():
            micro_batch = said.micro_batch or (2 if said.tiny else fitting_micro_batch(config, memory, said.recompute))
            for mode in said.modes:
                note(f"{name}, {mode}")
                row = {"model": name, "parameters": parameters(config).total, "mode": mode, "micro_batch": micro_batch}
                try:
                    row |= measure(config, mode, micro_batch, said, tokens)
                    row["mfu"] = flops_per_token(config) * row["tokens_per_second"] / peak
                except torch.OutOfMemoryError:
                    row["error"] = "out of memory"
                speeds.append(row)
            note(f"{name}, losses")
            agreements.append(agreement(name, config, said, tokens))
    show_tables(speeds, agreements, said)
    settings = {key: value for key, value in vars(said).items() if key != "results"}
    facts = machine() | card(device) | {"peak_flops_per_second": peak, "peak_is": source}
    figures = {"machine": facts, "settings": settings, "speeds": speeds, "losses": agreements}
    write_results(said.results, "train_gpu", figures)


def agreement(name: str, config: ModelConfig, said: argparse.Namespace, tokens: Path) -> dict[str, Any]:
    """How far bf16, in the last of the asked modes, is from eager fp32."""
    found = {
        precision: losses(config, precision, mode, said, tokens)
        for precision, mode in (("fp32", "eager"), ("bf16", said.modes[-1]))
    }
    apart = [abs(narrow / wide - 1) for narrow, wide in zip(found["bf16"], found["fp32"], strict=True)]
    return {"model": name, "bf16_mode": said.modes[-1], "largest_relative_difference": max(apart), **found}


def show_tables(speeds: list[dict[str, Any]], agreements: list[dict[str, Any]], said: argparse.Namespace) -> None:
    headings = ["model", "layers", "micro-batch", "step", "tokens/s", "MFU", "allocated", "reserved"]
    cells = []
    for row in speeds:
        measured = [row.get("error", "")] + [""] * 4
        if "error" not in row:
            memory = [row["peak_allocated_bytes"], row["peak_reserved_bytes"]]
            measured = [
                f"{row['step_seconds'] * 1000:.1f} ms",
                human_count(row["tokens_per_second"]),
                f"{row['mfu']:.1%}",
                *("–" if each is None else human_bytes(each) for each in memory),
            ]
        cells.append([row["model"], row["mode"], row["micro_batch"], *measured])
    title = f"bf16, sequences of {said.length}, {said.micro_batches} micro-batches a step, recompute: {said.recompute}"
    show(table(title, headings, cells, left=2))
    rows = [
        [row["model"], f"{row['fp32'][0]:.4f}", f"{row['fp32'][-1]:.4f}", f"{row['bf16'][-1]:.4f}",
         f"{row['largest_relative_difference']:.2e}"]
        for row in agreements
    ]  # fmt: skip
    headings = ["model", "fp32, first", "fp32, last", "bf16, last", "most apart"]
    show(table(f"The loss of {LOSS_STEPS} steps in bf16 and in fp32", headings, rows))


if __name__ == "__main__":
    main()
