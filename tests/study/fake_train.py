"""A stand-in for `megalith train`: it leaves the artifact of a run whose loss follows a known law."""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from megalith.arithmetic import flops_per_token, parameters
from megalith.artifacts import Workspace, produce
from megalith.recipe import load_recipe
from megalith.study.design import Cell
from tests.scaling.planted import LAW


def loss_of(n: float, d: float, seed: int, excess: float = 0.0) -> float:
    """The planted law's, as if the model were 2,000 times and the tokens 20,000 times as large, with a seed's noise."""
    noise = 0.002 * float(np.random.default_rng(seed).standard_normal())
    return LAW(2e3 * n, 2e4 * d) * (1 + excess) * float(np.exp(noise))


def leave(path: Path, overrides: list[str], recipe_file: Path, best_rate: float) -> None:
    """Write the artifact; a learning rate off by a factor of two costs two percent."""
    recipe = load_recipe(recipe_file, overrides)[0]
    count = parameters(recipe.model)
    n, d = count.non_embedding + count.output_projection, float(recipe.train.tokens or 0)
    off = float(np.log2(recipe.train.learning_rate / best_rate)) ** 2
    loss = loss_of(n, d, recipe.seed, 0.02 * off)

    def build(workspace: Workspace) -> dict[str, Any]:
        workspace.write_json("history.json", {"steps": []})
        return {
            "validation_loss": loss, "train_loss": loss, "tokens": int(d), "steps": 1, "seconds": 1.0,
            "flops_per_second": flops_per_token(recipe.model) * d,
        }  # fmt: skip

    produce(path, stage="train", settings={"overrides": overrides}, inputs={}, seed=recipe.seed, build=build)


def command_for(best_rate: float, fails: str = ""):  # type: ignore[no-untyped-def]  # as `running.command`
    def command(cell: Cell, directory: Path) -> list[str]:
        if cell.name == fails:
            return [sys.executable, "-c", "print('out of paper'); raise SystemExit(3)"]
        place, code = directory.absolute(), "import sys; from tests.study.fake_train import main; main(*sys.argv[1:])"
        return [
            sys.executable, "-c", code, str(place / "cells" / cell.name / "train"), str(place / "recipe.yaml"),
            str(best_rate), *cell.overrides,
        ]  # fmt: skip

    return command


def main(path: str, recipe: str, best_rate: str, *overrides: str) -> None:
    leave(Path(path), list(overrides), Path(recipe), float(best_rate))
