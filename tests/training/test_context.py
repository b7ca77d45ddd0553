"""Ranks that share samples, from the reading of the data to the checkpoint: the losses are those of one process."""

import json
from pathlib import Path
from typing import Any

import pytest

from megalith.recipe import Recipe
from tests.training import small
from tests.training.test_resume import ALONE, check_pairs

MODEL = {"num_layers": 1, "num_heads": 4, "num_kv_heads": 2, "positions": "rotary", "norm": "rmsnorm", "bias": False}


def test_what_ranks_that_share_samples_have_begun_one_process_ends_and_back(tmp_path: Path) -> None:
    layouts: dict[str, dict[str, Any]] = {"alone": ALONE, "context": {"context": 2}, "zero": {"context": 2, "zero": 3}}
    check_pairs(tmp_path, layouts, 1e-9, fp64=True, model=MODEL | {"dropout": 0.0})


def recipe_of(**parallel: int) -> Recipe:
    return small.small_recipe(model=MODEL | {"dropout": 0.0}, parallel=parallel)


def test_a_run_that_shares_samples_has_the_losses_of_one_process(tmp_path: Path) -> None:
    """Two processes, a batch ramp and validation; fp32, of sums in another order."""
    spread = small.run(tmp_path / "spread", recipe_of(context=2))
    with small.in_this_process():
        whole = small.run(tmp_path / "whole", recipe_of())
    found, wanted = (json.loads((each.path / "history.json").read_text()) for each in (spread, whole))
    assert spread.facts["processes"] == 2
    assert len(found["steps"]) == small.STEPS
    for key in ("steps", "validation"):
        assert len(found[key]) == len(wanted[key]) > 0
        for got, want in zip(found[key], wanted[key], strict=True):
            assert got["loss"] == pytest.approx(want["loss"], rel=2e-5), (key, got["step"])
