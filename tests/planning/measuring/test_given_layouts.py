"""A layout on more axes than data, timed at two numbers of micro-batches by workers that are told what to say."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from megalith.errors import RecipeError, ResourceError
from megalith.planning.measuring.layout_trials import LocalLayout
from megalith.planning.measuring.local_layouts import search_layouts
from megalith.recipe import Recipe, load_recipe
from tests.planning.measuring.fakes import RATES, stand_in

SIZED = ("model.num_layers=4", "model.hidden_size=128", "model.num_heads=4", "train.tokens=40960")


class Timed:
    """Rank 1 is the slower one: 0.5 s for a step, 0.1 s a micro-batch, in bf16 half of both."""

    base_bytes = 10**8

    def __init__(self, saved: Mapping[str, float]) -> None:
        self.saved = saved
        self.asked: list[Mapping[str, Any]] = []

    def ask(self, question: Mapping[str, Any], ranks: int = 1, *, seconds: float) -> list[dict[str, Any]]:
        names = ("constant", "per_layer", "per_sequence", "per_layer_and_sequence")
        if question["ask"] == "memory":
            return [dict.fromkeys(names, self.saved[question["precision"]])]
        self.asked.append(question)
        faster = 0.5 if question["precision"] == "bf16" else 1.0
        step = {str(count): [faster * (0.5 + 0.1 * count)] * 4 for count in question["micro_batches"]}
        return [{count: [each / 2 for each in times] for count, times in step.items()}, *[step] * (ranks - 1)]


def workers(monkeypatch: pytest.MonkeyPatch, **saved: float) -> Timed:
    told = Timed({"fp32": 1e6, "bf16": 1e6} | saved)

    @contextlib.contextmanager
    def start(_: int) -> Iterator[Timed]:
        yield told

    stand_in(monkeypatch, start, cores=4)
    return told


def recipe(*overrides: str) -> Recipe:
    return load_recipe("quickstart", [*SIZED, "parallel.pipeline=2", "train.micro_batch_size=1", *overrides])[0]


def test_the_line_through_both_is_followed_to_all_micro_batches_of_the_slowest_rank(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = workers(monkeypatch)
    best = search_layouts(recipe("train.precision=fp32"), RATES).best
    assert best.layout == LocalLayout(1, 2, 1, "fp32", pipeline=2)
    assert told.asked[0]["micro_batches"] == [2, 4]
    assert best.step_seconds == pytest.approx(0.5 + 0.1 * 16)
    assert best.interval[0] < best.step_seconds < best.interval[1]


def test_of_two_precisions_the_faster_is_taken_and_one_that_does_not_fit_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers(monkeypatch)
    both = search_layouts(recipe("train.precision=auto"), RATES).trials
    assert [each.layout.precision for each in both] == ["bf16", "fp32"]
    workers(monkeypatch, fp32=1e10)
    left = search_layouts(recipe("train.precision=auto"), RATES).trials
    assert [each.layout.precision for each in left] == ["bf16"]


def test_what_fits_in_no_precision_is_refused_with_what_the_leaner_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    told = workers(monkeypatch, fp32=1e11, bf16=1e10)
    with pytest.raises(ResourceError, match=r"takes \d+ GB, and this machine has 16.0 GB.*micro_batch_size"):
        search_layouts(recipe("train.precision=auto"), RATES)
    assert told.asked == []


def test_an_open_micro_batch_leaves_each_stage_one_and_what_cannot_be_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = workers(monkeypatch)
    search_layouts(recipe("train.micro_batch_size=null", "train.precision=fp32", "parallel.pipeline=4"), RATES)
    assert 16 // told.asked[0]["micro_batch_size"] == 4
    with pytest.raises(RecipeError, match="cannot fill"):
        search_layouts(recipe("parallel.pipeline=8"), RATES)
