"""Tokens a second with each document of a sample apart (`train.document_mask`) and with the sample as one text.

Both take turns at forward and backward passes of the same model on the same samples, and the best round of each
counts: on a GPU by the clock, else by the processor time of one thread, which a busy machine hardly changes. Lengths of
documents are drawn from a log-normal distribution (median 450 tokens, mean 950, about FineWeb's). Prints a table and
writes `results/documents.json`.

    python benchmarks/documents.py [--lengths 1024 4096] [--rounds 3]
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from megalith.console import show, table
from megalith.kernels import choose, use
from megalith.machine import cpu_name
from megalith.parallel import Mesh, loss_weights, parallelize
from megalith.parallel.mesh import own_device
from megalith.recipe import ModelConfig
from megalith.recipe.machine import ParallelConfig
from megalith.training.data import document_starts

MEDIAN, MEAN, END = 450.0, 950.0, 0
RESULTS = Path(__file__).parent / "results"
SHAPES: dict[str, dict[str, Any]] = {
    "learned": {},
    "rotary": {"positions": "rotary", "norm": "rmsnorm", "activation": "swiglu", "bias": False, "num_kv_heads": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    device = own_device()
    torch.set_num_threads(1)
    use(choose(torch.get_num_threads()))
    rows = [measured(name, length, given.rounds, device) for name in SHAPES for length in given.lengths]
    lines = [
        [row["model"], f"{row['sequence_length']:,}", f"{row['documents']:.1f}", *(f"{row[key]:,.0f}" for key in KEYS),
         f"{row['apart'] / row['as_one']:.2f}"]
        for row in rows
    ]  # fmt: skip
    headings = ["model", "tokens of a sample", "documents in it", "tokens/s as one", "tokens/s apart", "apart / as one"]
    show(table("Documents apart", headings, lines, left=1))
    where = torch.cuda.get_device_name() if device.type == "cuda" else cpu_name()
    RESULTS.mkdir(exist_ok=True)
    told = {"machine": where, "rows": rows}
    (RESULTS / "documents.json").write_text(json.dumps(told, indent=1) + "\n")


KEYS = ("as_one", "apart")


def measured(name: str, length: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Tokens a second of both ways, 4 layers of 256."""
    shape = {"num_layers": 4, "hidden_size": 256, "num_heads": 4, "vocab_size": 8192, "sequence_length": length}
    config = ModelConfig.model_validate(shape | SHAPES[name])
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = parallelize(config, ParallelConfig(), Mesh(device=device), dtype=dtype, seed=1)
    tokens = drawn(max(1, 4096 // length), length)
    plain = {"tokens": torch.from_numpy(tokens), "targets": torch.from_numpy(np.roll(tokens, -1, axis=1))}
    starts = document_starts(tokens, END)
    apart = plain | {"document_starts": torch.from_numpy(starts)}
    seconds = dict.fromkeys(KEYS, math.inf)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    for number in range(rounds + 1):
        for key, batch in zip(KEYS, (plain, apart), strict=True):
            before = clock()
            model.gradients.zero()
            model.forward_backward([batch], loss_weights([float(tokens.size)]), [0])
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number:
                seconds[key] = min(seconds[key], clock() - before)
    documents = float(np.mean([len(np.unique(row)) for row in starts]))
    speeds = {key: tokens.size / each for key, each in seconds.items()}
    return {"model": name, "sequence_length": length, "documents": documents, "rounds": rounds} | speeds


def drawn(samples: int, length: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Samples (B, T) cut out of a stream of documents, each after an end of text."""
    random = np.random.default_rng(0)
    spread = math.sqrt(2 * math.log(MEAN / MEDIAN))
    lengths = np.maximum(2, random.lognormal(math.log(MEDIAN), spread, samples * length)).astype(np.int64)
    tokens = random.integers(1, 8192, samples * length)
    begins = lengths.cumsum()
    tokens[begins[begins < len(tokens)]] = END
    return tokens.reshape(samples, length)


if __name__ == "__main__":
    main()
