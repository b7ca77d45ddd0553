"""Training on this machine's CPU: Megalith beside a plain loop, Hugging Face's Trainer and litgpt.

All train the same GPT (6 layers, hidden 384, 6 heads, 256 tokens, vocabulary 8192) on the same tokens, 16 sequences a
step, AdamW, gradients clipped to norm 1, with as many threads as there are cores; each in processes of its own, in
turn, for several rounds. A contestant's figure is the median over all its steps, and is given as tokens a second and as
a share of the machine's matrix peak; the last lines say how much faster Megalith is than the best peer at the same
precision, and than the best peer as it comes (what it does when one asks for nothing). All of it is done twice: on the
processor as it is, and held to AVX2 (oneDNN, MKL and torch by their environment variables), as on a processor without
AVX-512. A precision for which a processor has no instructions is left out, and that is said. Writes
`results/train_cpu.json`.

    python benchmarks/train_cpu.py [--rounds 3] [--steps 8] [--layers 6 --hidden 384 --heads 6 --vocab 8192]
                                   [--held-to nothing AVX2]

Peers that are not installed are left out, and that is said. They need no other torch than Megalith's:

    pip install --no-deps transformers accelerate litgpt lightning lightning-utilities torchmetrics
    pip install huggingface_hub safetensors tokenizers regex packaging tqdm requests jsonargparse

torch.compile wants a C++ compiler. Close other programs first: the load beforehand is recorded.
"""

import argparse
import dataclasses
import importlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peers import Task

from megalith.arithmetic import flops_per_token, parameters
from megalith.kernels import caps, multiplies_bf16
from megalith.machine import cpu_name, usable_cores
from megalith.planning.measuring.rates import measure_peak_flops_per_second
from megalith.recipe import ModelConfig

LENGTH, SEQUENCES = 256, 16
RESULTS = Path(__file__).parent / "results" / "train_cpu.json"
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CAPS: Mapping[str, Mapping[str, str]] = {
    "nothing": {},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
}
PEAK = "peak"  # no contestant: what the fastest product reaches


@dataclass(frozen=True)
class Contestant:
    """One way to train."""

    module: str
    compiled: bool = False
    comes_with: str | None = None
    """The precision that it takes on a CPU when nobody says one, where this is how it comes."""


OURS = "megalith"
CONTESTANTS = {
    OURS: Contestant("peers.ours"),
    "plain loop": Contestant("peers.nanogpt"),
    "plain loop, compiled": Contestant("peers.nanogpt", compiled=True, comes_with="fp32"),
    "transformers Trainer": Contestant("peers.huggingface", comes_with="fp32"),
    "litgpt": Contestant("peers.litgpt"),
    "litgpt, compiled": Contestant("peers.litgpt", compiled=True, comes_with="bf16"),
}


def main() -> None:
    said = parse()
    if said.worker:
        name, task = said.worker[0], Task(**json.loads(said.worker[1]))
        if name == PEAK:
            peak = measure_peak_flops_per_second(TYPES[task.precision], task.threads)
            print(json.dumps({"flops_per_second": peak}))
            return
        trained = importlib.import_module(CONTESTANTS[name].module).train(task)
        print("\n" + json.dumps(dataclasses.asdict(trained)))
        return
    config = ModelConfig(
        num_layers=said.layers,
        hidden_size=said.hidden,
        num_heads=said.heads,
        vocab_size=said.vocab,
        sequence_length=LENGTH,
    )
    figures: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "model": {"layers": said.layers, "hidden": said.hidden, "heads": said.heads, "vocab": said.vocab},
        "tokens_per_step": SEQUENCES * LENGTH,
        "held_to": {},
    }
    for held_to in said.held_to:
        print(f"{figures['cpu']}, held to {held_to}")
        environment = {**os.environ, **CAPS[held_to]}
        load = os.getloadavg()[0]
        runs, missing, peaks = race(said, parameters(config).total, environment)
        figures["held_to"][held_to] = {
            "caps": caps(environment),
            "bf16_instructions": multiplies_bf16(environment),
            "load_before": load,
            "peak_flops_per_second": peaks,
            "missing": missing,
            **summarise(runs, flops_per_token(config), peaks),
        }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 6), ("hidden", 384), ("heads", 6), ("vocab", 8192), ("steps", 8), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--held-to", nargs="+", choices=CAPS, default=list(CAPS))
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--worker", nargs=2, metavar=("WHO", "TASK"), help=argparse.SUPPRESS)
    return parser.parse_args()


Runs = dict[tuple[str, str], dict[str, Any]]
"""By contestant and precision: parameters, losses of the last round, seconds of all rounds, versions."""


def race(
    said: argparse.Namespace, size: int, environment: Mapping[str, str]
) -> tuple[Runs, dict[str, str], dict[str, float]]:
    """All contestants in turn; what ran, why others did not, and the machine's peak by precision."""
    runs: Runs = {}
    missing: dict[str, str] = {}
    precisions = ["fp32", "bf16"] if multiplies_bf16(environment) else ["fp32"]
    if "bf16" not in precisions:
        missing["bf16"] = "the processor has no bf16 instructions, or is held to older ones"
        print(f"bf16 is left out: {missing['bf16']}")
    peaks = dict.fromkeys(precisions, 0.0)
    for number in range(said.rounds):
        for precision in precisions:
            task = Task(
                layers=said.layers, hidden=said.hidden, heads=said.heads, vocab=said.vocab, length=LENGTH,
                sequences=SEQUENCES, steps=said.steps, precision=precision, compiled=False, threads=usable_cores(),
            )  # fmt: skip
            peaks[precision] = max(peaks[precision], run(PEAK, task, environment)["flops_per_second"])
            for name in said.only:
                if name in missing:
                    continue
                own = dataclasses.replace(task, compiled=CONTESTANTS[name].compiled)
                try:
                    found = run(name, own, environment)
                except ChildError as error:
                    if name == OURS:
                        raise SystemExit(str(error)) from error
                    missing[name] = error.last_line
                    print(f"{name} is left out: {missing[name]}")
                    continue
                check(name, found, size, LENGTH * said.hidden)
                before = runs.get((name, precision), {"seconds": []})
                runs[name, precision] = found | {"seconds": before["seconds"] + found["seconds"]}
                seconds = statistics.median(found["seconds"])
                print(f"round {number + 1}, {precision}, {name}: {seconds * 1000:.0f} ms a step", flush=True)
    return runs, missing, peaks


class ChildError(Exception):
    """A contestant's process has ended badly; the text is what it said."""

    @property
    def last_line(self) -> str:
        return next((line for line in reversed(str(self).splitlines()) if line.strip()), "it said nothing")


def run(name: str, task: Task, environment: Mapping[str, str]) -> dict[str, Any]:
    """The measurement of a contestant in a process of its own. Raises ChildError."""
    command = [sys.executable, __file__, "--worker", name, json.dumps(dataclasses.asdict(task))]
    own = {**environment, "OMP_NUM_THREADS": str(task.threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=own)
    if done.returncode:
        raise ChildError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check(name: str, found: dict[str, Any], size: int, positions: int) -> None:
    """That it trained a model of this size, with a table of positions or without, and that it learned."""
    if found["parameters"] not in (size, size - positions):
        raise SystemExit(f"{name} has {found['parameters']:,} parameters, and Megalith {size:,}.")
    if not statistics.mean(found["losses"][-3:]) < found["losses"][0]:
        raise SystemExit(f"{name}'s loss did not fall: {found['losses']}.")


def summarise(runs: Runs, flops: float, peaks: dict[str, float]) -> dict[str, Any]:
    """Print and return the table and the ratios."""
    speed = {key: SEQUENCES * LENGTH / statistics.median(found["seconds"]) for key, found in runs.items()}
    rows = []
    for (name, precision), tokens_per_second in speed.items():
        found, rate = runs[name, precision], flops * tokens_per_second
        rows.append(
            {
                "name": name,
                "precision": precision,
                "comes_so": CONTESTANTS[name].comes_with == precision,
                "tokens_per_second": tokens_per_second,
                "flops_per_second": rate,
                "share_of_peak": rate / peaks[precision],
                "parameters": found["parameters"],
                "first_loss": found["losses"][0],
                "last_loss": found["losses"][-1],
                "step_seconds": found["seconds"],
                "versions": found["versions"],
            }
        )
        print(
            f"{precision}  {name:22} {tokens_per_second:8,.0f} tokens/s  {rate / 1e9:5.0f} GFLOP/s, "
            f"{rate / peaks[precision]:4.0%} of {peaks[precision] / 1e9:.0f}   {found['parameters']:,} parameters, "
            f"loss {found['losses'][0]:.2f} to {found['losses'][-1]:.2f}"
        )
    ratios = {}
    for precision in peaks:
        others = {name: rate for (name, kind), rate in speed.items() if kind == precision and name != OURS}
        if others and (OURS, precision) in speed:
            ratios[precision] = ratio(f"{precision}, both", speed[OURS, precision], others)
    defaults = {name: rate for (name, kind), rate in speed.items() if CONTESTANTS[name].comes_with == kind}
    ours = max((rate for (name, _), rate in speed.items() if name == OURS), default=None)
    if defaults and ours:
        ratios["default"] = ratio("as each comes", ours, defaults)
    return {"rows": rows, "ratios": ratios}


def ratio(what: str, ours: float, others: dict[str, float]) -> dict[str, Any]:
    best = max(others, key=others.__getitem__)
    print(f"{what}: {ours / others[best]:.2f} × the speed of {best}")
    return {"speedup": ours / others[best], "best_peer": best}


if __name__ == "__main__":
    main()
