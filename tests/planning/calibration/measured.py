"""Tables of runs that never were: the cost model's own steps under constants that the test knows, with noise."""

import csv
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np

from megalith.planning.calibration.published_runs import read_table
from megalith.planning.performance import Constants, predict_step

TRUE = Constants(gemm=0.70, memory=0.62, node_link=0.6, network=0.9, gradient_network=0.3, launch_seconds=120e-6)
MULTIPLIERS = {"megatron": 0.93, "megatron-deepspeed": 1.15}
COLUMNS = (
    *("dataset", "row_id", "gpu", "gpus_per_node", "n_gpus", "layers", "hidden", "heads", "seq"),
    *("tp", "pp", "dp", "vpp", "mbs", "gbs", "zero", "recompute", "flash", "precision"),
    *("step_time_s", "status", "notes", "source"),
)
_SHAPES = ((24, 2304, 24), (36, 4096, 32), (40, 6144, 48), (48, 8192, 64), (96, 12288, 96))
_LAYOUTS = ((8, 1, 1, 1, 8), (8, 1, 4, 1, 16), (8, 2, 8, 1, 4), (4, 4, 4, 1, 2), (8, 4, 2, 2, 1), (2, 2, 16, 1, 4))


def write_table(path: Path, *, noise: float = 0.0, seed: int = 0, datasets: int = 3) -> Path:
    """A table of `datasets` datasets, the last one by other software; each dataset has a third of the runs."""
    draw = np.random.default_rng(seed)
    rows = []
    for number, (shape, layout) in enumerate(itertools.product(_SHAPES, _LAYOUTS)):
        (layers, hidden, heads), (tensor, pipeline, data, virtual, micro) = shape, layout
        own = number % datasets
        rows.append({
            "dataset": f"runs-{own}", "row_id": f"run-{number}", "gpu": "A100-SXM-80GB", "gpus_per_node": 8,
            "n_gpus": tensor * pipeline * data, "layers": layers, "hidden": hidden, "heads": heads, "seq": 2048,
            "tp": tensor, "pp": pipeline, "dp": data, "vpp": virtual, "mbs": micro,
            "gbs": data * micro * (1 if number % 4 == 0 and pipeline == 1 else 4 * pipeline), "zero": 0,
            "recompute": ("none", "full", "selective")[number // 2 % 3], "flash": 0,
            "precision": "fp16", "step_time_s": 1, "status": "ok", "notes": "",
            "source": "gpt-neox" if own == datasets - 1 else "a paper",
        })  # fmt: skip
    _write(path, rows)
    read, _ = read_table(path)
    for row, one in zip(rows, read, strict=True):
        constants = replace(TRUE, stack=MULTIPLIERS[one.job.stack])
        seconds = predict_step(one.job, constants, exact=False).seconds
        row["step_time_s"] = seconds * float(np.exp(noise * draw.standard_normal()))
    return _write(path, rows)


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path
