"""The table that ends a run: one row a stage, in the order in which they ran."""

import io
from typing import Any

import pytest
from rich.console import Console

from megalith.report import summary_table


def printed(expedition: dict[str, Any]) -> list[str]:
    console = Console(file=io.StringIO(), width=160)
    console.print(summary_table(expedition))
    assert isinstance(console.file, io.StringIO)
    return [line.strip() for line in console.file.getvalue().splitlines() if line.strip()]


def row(expedition: dict[str, Any], stage: str) -> str:
    return next(line for line in printed(expedition) if line.startswith(stage))


def test_each_stage_has_a_row_that_says_whether_it_was_built(expedition: dict[str, Any]) -> None:
    rows = printed(expedition)[-7:]
    assert [line.split()[0] for line in rows] == ["crawl", "curate", "tokenize", "plan", "train", "evaluate", "audit"]
    assert [line.split()[-1] for line in rows] == ["reused"] * 2 + ["built"] * 5


def test_the_training_row_holds_the_loss_and_the_plan_s_error(expedition: dict[str, Any]) -> None:
    expedition["plan"]["step_seconds"], expedition["train"]["step_seconds"] = 0.2, 0.25
    told = row(expedition, "train")
    assert "validation loss 4.217" in told
    assert "250 ms a step (+25.0 %)" in told


@pytest.mark.parametrize("part", ["crawl", "curation", "tokens", "plan", "train", "evaluate", "audit"])
def test_a_stage_without_figures_keeps_its_row(expedition: dict[str, Any], part: str) -> None:
    expedition[part] = None
    assert len(printed(expedition)) == len(printed(expedition | {part: {}}))


def test_an_expedition_that_has_made_nothing_has_an_empty_table() -> None:
    assert summary_table({"name": "nothing", "artifacts": []}).row_count == 0


def test_a_score_at_chance_and_an_association_that_is_none_are_said_to_be(expedition: dict[str, Any]) -> None:
    assert "HANS 50.0 % of 120, at chance level" in row(expedition, "audit")
    assert "gender log odds −0.31 nats" in row(expedition, "audit")
    expedition["audit"]["hans"] |= {"accuracy": 0.75, "interval": [0.66, 0.82], "chance": 0.5}
    expedition["audit"]["association"]["log_odds_ratio_interval"] = [-0.7, 0.1]
    told = row(expedition, "audit")
    assert "HANS 75.0 % of 120 " in told and "chance" not in told
    assert "no gender association told" in told and "−0.31" not in told
