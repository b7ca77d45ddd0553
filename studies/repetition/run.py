"""When does repeated text stop paying? `python studies/repetition/run.py` after the tokens of studies/isoflop are made.

One model size. UNIQUE tokens of text are read 2, 4, 8 and 16 times, and fresh text of as many tokens once, with the
same batch and learning rate; every seed has other text to repeat. Cells that stand in a table are not run again. All
rows are joined into RUNS.csv beside this file, and the data-constrained law (2305.16264) is fitted to them.
"""

import argparse
import csv
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from megalith import scaling_fit
from megalith.arithmetic import flops_per_token
from megalith.machine import cpu_name
from megalith.recipe import Recipe, load_recipe
from megalith.study import Cell, Design, further
from megalith.study.cells import run_cells, write_recipe
from megalith.study.ledger import COLUMNS, collect
from megalith.study.running import command
from megalith.tokens import Shards, take_shards
from megalith.tokens.shards import ShardWriter, shard_paths

HERE = Path(__file__).resolve().parent
ISOFLOP = HERE.parent / "isoflop"
TOKENS = ISOFLOP / "runs" / "tokenize"
PARAMETERS = 197e3
UNIQUE = 512 * 1024
EPOCHS = (1, 2, 4, 8, 16)
SEEDS = 3


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, help="runs at once")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    asked = parser.parse_args(arguments)
    rows = []
    for seed in range(asked.seeds):
        for repeated in (False, True):
            rows += run(f"text-{seed}" if repeated else f"fresh-{seed}", seed, asked.jobs, repeated=repeated)
    with (HERE / "RUNS.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    found = scaling_fit(os.path.relpath(HERE / "RUNS.csv"))
    found["hours"] = sum(float(row["seconds"]) for row in rows) / 3600
    found["processor"] = cpu_name()
    (HERE / "fit.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def run(name: str, seed: int, jobs: int | None, *, repeated: bool) -> list[dict[str, str]]:
    """The rows of one seed's runs on fresh or on repeated text."""
    directory = HERE / "runs" / name
    directory.mkdir(parents=True, exist_ok=True)
    base = load_recipe(ISOFLOP / "recipe.yaml")[0]
    if not (directory / "tokenize").exists():
        if repeated:
            part_of_the_text(base, directory, seed)
        else:
            (directory / "tokenize").symlink_to(TOKENS, target_is_directory=True)
    write_recipe(base, directory)
    cells = [cell(base, epochs, seed, name) for epochs in EPOCHS if epochs > 1 or not repeated]
    plan = Design(tuple(cells), tuple(each.budget for each in cells))
    return run_cells(
        directory, cells, command, partial(collect, directory, plan),
        lambda row: f"validation loss {float(row['validation_loss']):.4f}", of=len(cells), jobs=jobs,
    )  # fmt: skip


def cell(base: Recipe, epochs: int, seed: int, name: str) -> Cell:
    """The run of so many times UNIQUE tokens, by the rules of the IsoFLOP study."""
    budgets = json.loads((ISOFLOP / "runs" / "study.json").read_text(encoding="utf-8"))["design"]["budgets"]
    model = further(base, budgets, 1e13, PARAMETERS, name=name).cells[0].model
    (made,) = further(base, budgets, flops_per_token(model) * UNIQUE * epochs, PARAMETERS, name=name).cells
    step = made.batch * model.sequence_length
    return replace(
        made, name=f"{name}-x{epochs}", tokens=UNIQUE * epochs // step * step, seed=made.seed + seed,
    )  # fmt: skip


def part_of_the_text(base: Recipe, directory: Path, seed: int) -> None:
    """Shards of UNIQUE tokens of whole documents, other ones for each seed; validation text stays all of it."""
    shards = Shards(TOKENS / "train")
    order = np.random.default_rng(seed).permutation(shards.documents)
    written = 0
    with ShardWriter(*shard_paths(directory / "part"), base.model.vocab_size) as writer:
        for number in order:
            ids = shards.document(int(number))[: UNIQUE + 1 - written]
            writer.add(ids.tolist())
            written += len(ids)
            if written > UNIQUE:
                break
    given = {"from": [str(directory / "part")], "tokenizer": [str(TOKENS)], "validation": [str(TOKENS / "validation")]}
    recipe = Recipe.model_validate({**base.model_dump(by_alias=True), "curate": {}, "tokens": given})
    take_shards(recipe, directory / "tokenize")


if __name__ == "__main__":
    main()
