"""The parity table: `make parity` prints it and writes docs/parity.md. It ends with 1 where a cell does not hold."""

import argparse
import sys
from pathlib import Path

import torch

from megalith.console import progress, show, table
from tests.parallel.cells import HEADINGS, Cell, whole_table
from tests.parallel.oracle import STEPS
from tests.parallel.parity import FP64_BOUND, C, Difference, K, compare

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parity.md"
FIGURES = ("losses", "gradients", "norm", "parameters", "of the bound")


def main() -> int:
    argparse.ArgumentParser(prog="python -m tests.parallel.table", description=__doc__).parse_args()
    cells = whole_table()
    with progress() as display:
        task = display.add_task("Comparing layouts", total=len(cells))
        found = compare(cells, lambda count: display.update(task, completed=count))
    rows = [row(cell, each) for cell, each in found.items()]
    show(table("Layouts against one process", [*HEADINGS, *FIGURES], rows, left=len(HEADINGS)))
    failed = [cell for cell, each in found.items() if not holds(each)]
    show(summary(found))
    PAGE.write_text(page(found), encoding="utf-8")
    return 1 if failed else 0


def holds(found: Difference | str) -> bool:
    """Whether a cell is within its bound."""
    return isinstance(found, Difference) and found.of_bound <= 1


def row(cell: Cell, found: Difference | str) -> list[str]:
    """A line of the table."""
    if isinstance(found, str):
        return [*cell.layout, found, *[""] * (len(FIGURES) - 1)]
    figures = [found.losses, found.gradients, found.norms, found.parameters]
    return [
        *cell.layout,
        *(f"{each:.0e}" for each in figures),
        f"{found.of_bound:.1g}" + ("" if holds(found) else " !"),
    ]


def summary(found: dict[Cell, Difference | str]) -> str:
    """One line."""
    held = sum(map(holds, found.values()))
    worst = max(
        (each.of_bound for cell, each in found.items() if cell.precision == "fp64" and isinstance(each, Difference)),
        default=0.0,
    )
    return f"{held} of {len(found)} cells hold; in fp64 the largest relative error is {worst * FP64_BOUND:.0e}."


def page(found: dict[Cell, Difference | str]) -> str:
    """docs/parity.md."""
    lines = [[*HEADINGS, *FIGURES], ["---"] * len(HEADINGS) + ["---:"] * len(FIGURES)]
    lines += [row(cell, each) for cell, each in found.items()]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    python, version = f"{sys.version_info.major}.{sys.version_info.minor}", torch.__version__.split("+")[0]
    return f"""# Every layout gives the results of one process

`make parity` writes this page (here with Python {python}, torch {version}, gloo, one thread a rank).

{summary(found)}

A cell trains a tiny model for {STEPS} steps (AdamW, weight decay, clipping) on as many processes as its layout has
ranks, with counts of targets that differ from sample to sample, a vocabulary and a number of layers that no axis
divides. The reference is one process that runs the whole model on whole batches with torch's own cross entropy,
clipping and AdamW. The figures are the largest relative differences: of the losses of all steps, of the first
step's gradients (each parameter's norm of the difference over its norm; in fp32 and bf16 each layer's), of the
gradient norms of all steps, and of the parameters after the last step. Copies of a parameter on several ranks are
equal to the bit.

The bound in fp64 is {FP64_BOUND:g} for every number. In fp32 and bf16 it is on the first step: the gradient of
layer l of L, all its parameters together, may differ by k·C^(L+1−l)·ε with C = {C:g}, ε the type's machine epsilon,
and k = {K["bf16"]} ([2506.09280](https://arxiv.org/abs/2506.09280), theorem 5.3; the constants are those of
Megatron-LM's tests), in fp32 {K["fp32"]}; parameters after the last layer by k·ε; losses and norms by the bound of
the embedding, l = 0. Values after a step of Adam, which divides gradients near 0 by their own size, are shown there
but not bounded. bf16 is compared with one process of Megalith in bf16.

The cells: the tied GPT model in all 121 layouts of tensor 1, 2, 4 × pipeline 1, 2, 4 × data 1, 2 × ZeRO 0 to 3 ×
schedule × sequence parallelism that fit into 8 ranks; every other model in a selection that contains every possible
pair of choices; then recomputation, ZeRO over a part of the data axis, and narrow types, in a few layouts. qwen3,
olmo2, pythia and mistral have these models' [options](model-options.md), and heads of keys and values that tensor
ranks split, share evenly or share unevenly.

{body}
"""


if __name__ == "__main__":
    sys.exit(main())
