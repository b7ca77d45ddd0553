"""Compiled layers take the steps that plain ones take, and a run of them is taken up to the bit."""

from pathlib import Path
from typing import Any

import pytest

from megalith.recipe import Recipe
from tests.training import forked
from tests.training.small import small_recipe

STEPS = 4
LAYOUTS: list[dict[str, Any]] = [
    {},
    {"tensor": 2},
    {"tensor": 2, "sequence_parallel": True},
    {"pipeline": 2},
    {"data": 2, "zero": 1},
    {"data": 2, "zero": 3},
    {"recompute": "selective"},
    {"recompute": "full"},
]


def recipe_of(layout: dict[str, Any], *, compiled: bool, dropout: float = 0.0) -> Recipe:
    return small_recipe(model={"dropout": dropout}, parallel=layout, batch_ramp=None, compile=compiled)


def check_like_plain(directory: Path, layout: dict[str, Any]) -> None:
    tasks = [
        forked.task_of(directory / f"compiled-{compiled}", recipe_of(layout, compiled=compiled))
        for compiled in (False, True)
    ]
    forked.train(tasks, steps=STEPS)
    plain, compiled = (forked.steps_of(task) for task in tasks)
    assert len(compiled) == STEPS
    for key in ("loss", "gradient_norm"):
        # fused kernels round in another order: some ulps of fp32 (6e-8), which four steps of Adam amplify
        assert [step[key] for step in compiled] == pytest.approx([step[key] for step in plain], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_compiled_layers_take_the_steps_that_plain_ones_take_in_every_layout(
    tmp_path: Path, layout: dict[str, Any]
) -> None:
    check_like_plain(tmp_path, layout)


@pytest.mark.slow
def test_a_compiled_run_with_dropout_is_taken_up_to_the_bit(tmp_path: Path) -> None:
    recipe = recipe_of({}, compiled=True, dropout=0.1)
    whole, broken = (forked.task_of(tmp_path / name, recipe) for name in ("whole", "broken"))
    forked.train([whole], steps=2 * STEPS)
    forked.train([broken], steps=STEPS)
    forked.train([broken], steps=STEPS)
    assert len({step["loss"] for step in forked.steps_of(whole)}) == 2 * STEPS
    assert forked.steps_of(broken) == forked.steps_of(whole)
