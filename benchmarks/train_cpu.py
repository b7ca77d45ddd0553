"""One training step on this machine's CPU: Megalith's loop beside a plain loop in nanoGPT's manner.

Both train the same GPT (same shape, batch, precision, threads) on the same random tokens, each in processes of its own,
in turn: plain, ours, plain, ours. The plain loop is what one writes by hand with torch: autocast, full logits,
cross_entropy, clip_grad_norm_, fused AdamW. Ours is `megalith.training.loop.take_step`, with all that it does besides
(reading shards, deterministic algorithms, counting tokens). Prints the medians and their ratio, and writes
`results/train_cpu.json`.

    python benchmarks/train_cpu.py [--layers 4 --hidden 128 --heads 4 --vocab 4096] [--steps 12] [--rounds 3]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from megalith.arithmetic import flops_per_token
from megalith.machine import compute_deterministically, cpu_name, usable_cores
from megalith.parallel import Ranks
from megalith.processes import SPINS
from megalith.recipe import ModelConfig, load_recipe
from megalith.tokens import write_shards
from megalith.training.job import Job
from megalith.training.loop import begin, take_step
from megalith.training.schedule import batches

BATCH, LENGTH, WARM = 16, 256, 3
RESULTS = Path(__file__).parent / "results"


class PlainBlock(nn.Module):
    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, e = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(b, t, 3, self.heads, e // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, e))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.padded_vocab_size, config.hidden)
        self.places = nn.Embedding(config.sequence_length, config.hidden)
        self.blocks = nn.ModuleList(PlainBlock(config.hidden, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.T


def plain(config: ModelConfig, precision: str, steps: int) -> list[float]:
    torch.set_num_threads(usable_cores())
    torch.manual_seed(0)
    model = PlainGPT(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    seconds = []
    for _ in range(WARM + steps):
        tokens = torch.randint(config.vocab_size, (BATCH, LENGTH + 1))
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(tokens[:, :-1])
            loss = F.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    return seconds[WARM:]


def ours(config: ModelConfig, precision: str, steps: int) -> list[float]:
    torch.set_num_threads(usable_cores())
    compute_deterministically()
    total = BATCH * LENGTH * (WARM + steps)
    recipe, _ = load_recipe(
        "quickstart",
        [f"train.tokens={total}", f"train.global_batch_size={BATCH}", f"train.micro_batch_size={BATCH}",
         f"train.precision={precision}", "parallel={tensor: 1, pipeline: 1, data: 1}",
         f"tokenize.vocab_size={config.vocab_size}", f"model={json.dumps(config.model_dump(mode='json'))}"],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        rng = np.random.default_rng(0)
        for split in ("train", "validation"):
            write_shards(place / split, [rng.integers(config.vocab_size, size=total)], config.vocab_size)
        job = Job(
            recipe=recipe, tokens=place, workspace=place, run="", threads=usable_cores(), peak_flops_per_second=None
        )
        state = begin(job, Ranks())
        seconds = []
        for batch in batches(recipe.train, LENGTH):
            start = time.perf_counter()
            take_step(state, batch)
            seconds.append(time.perf_counter() - start)
    return seconds[WARM:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("layers", 4), ("hidden", 128), ("heads", 4), ("vocab", 4096), ("steps", 12), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--worker", nargs=2, metavar=("WHO", "PRECISION"), help=argparse.SUPPRESS)
    said = parser.parse_args()
    config = ModelConfig(
        num_layers=said.layers,
        hidden_size=said.hidden,
        num_heads=said.heads,
        vocab_size=said.vocab,
        sequence_length=LENGTH,
    )
    if said.worker:
        who, precision = said.worker
        print(json.dumps({"plain": plain, "ours": ours}[who](config, precision, said.steps)))
        return
    rows = [compare(config, precision, said.rounds) for precision in ("fp32", "bf16")]
    RESULTS.mkdir(exist_ok=True)
    figures = {
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "torch": torch.__version__,
        "model": vars(said),
        "rows": rows,
    }
    del figures["model"]["worker"]
    (RESULTS / "train_cpu.json").write_text(json.dumps(figures, indent=1) + "\n")


def compare(config: ModelConfig, precision: str, rounds: int) -> dict[str, float | str]:
    """Median seconds of a step of both, run in turn."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(rounds):
        for who, found in seconds.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--worker", who, precision]
            # training sets this for its processes too; the plain loop has torch's default
            environment = {**os.environ, **({"GOMP_SPINCOUNT": SPINS} if who == "ours" else {})}
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            found += json.loads(done.stdout)
    median = {who: statistics.median(found) for who, found in seconds.items()}
    rate = flops_per_token(config) * BATCH * LENGTH / median["ours"] / 1e9
    print(
        f"{precision}: plain {median['plain'] * 1000:.0f} ms, ours {median['ours'] * 1000:.0f} ms a step "
        f"({rate:.0f} GFLOP/s): {median['plain'] / median['ours']:.2f} × the plain loop's speed"
    )
    return {
        "precision": precision,
        "plain_seconds": median["plain"],
        "ours_seconds": median["ours"],
        "speedup": median["plain"] / median["ours"],
    }


if __name__ == "__main__":
    main()
