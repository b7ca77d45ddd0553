"""Files of another form than Megalith writes: a page all the same, or one sentence that names the part."""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

from megalith.errors import InputError
from megalith.report import plots, write_report
from megalith.report.report import render
from tests.report.conftest import make_history, make_samples

OTHERS: tuple[Any, ...] = ("x", 3, -1.5, [], {}, None, ["x"], [3], [{}], {"x": 1}, [None], True, float("nan"), "\ud800")


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a JSON value, itself included; of a list, the first two elements."""
    yield at
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*at, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:2]):
            yield from places(inner, (*at, number))


def replaced(value: Any, at: tuple[Any, ...], other: Any) -> Any:
    """A copy of a JSON value with something else in one place."""
    if not at:
        return other
    made = copy.deepcopy(value)
    inner = made
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = other
    return made


def page_or_sentence(directory: Path) -> str:
    """The page's text, or the sentence that refuses it; any other error is a failure."""
    try:
        return write_report(directory).read_text(encoding="utf-8")
    except InputError as error:
        assert error.where is not None and error.mend is not None
        return str(error)


def test_any_part_of_another_form_makes_a_page_or_a_sentence(
    directory: Path, expedition: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Markup("<svg></svg>")  # drawing is slow; the next test draws
    monkeypatch.setattr(plots, "responsive", lambda *figure: drawn)
    monkeypatch.setattr(plots, "inline", lambda *figure: drawn)
    every = [
        (name, whole, at)
        for name, whole in (
            ("expedition.json", expedition | {"recipe": {"model": {"num_layers": 2}, "evaluate": {"tasks": ["x"]}}}),
            ("curate/samples.json", make_samples()),
            ("train/history.json", {name: rows[:3] for name, rows in make_history().items()}),
        )
        for at in places(whole)
    ]
    picked = random.Random(5).sample(every, min(len(every), 60))
    told: list[str] = []
    for name, whole, at in picked:
        for other in random.Random(str(at)).sample(OTHERS, 3):
            (directory / name).write_text(json.dumps(replaced(whole, at, other)))
            told.append(page_or_sentence(directory))
        (directory / name).write_text(json.dumps(whole))
    assert any("not of the form that Megalith writes" in text for text in told)


DRAWN = (
    ("curation", "steps", 2, "bytes_in"), ("curation", "bytes_in"), ("evaluate", "tasks", 2, "interval"),
    ("evaluate", "tasks", 3, "chance"), ("audit", "hans", "cells", 1, "interval"),
    ("audit", "association", "mean_log_odds_ratio"), ("audit", "association", "log_odds_ratio_interval"),
    ("train", "unigram_entropy"),
)  # fmt: skip
NAMES = (
    ("curation", "steps", 0, "name"), ("evaluate", "tasks", 2, "name"), ("audit", "hans", "cells", 1, "label"),
    ("audit", "association", "rows", 3, "occupation"),
)  # fmt: skip


@pytest.mark.parametrize("other", ["$x_1$ <b>\\frac", None, -1e300], ids=["text", "null", "number"])
def test_figures_are_drawn_of_parts_of_another_form(expedition: dict[str, Any], other: Any) -> None:
    history = {"steps": [{"tokens": 1, "loss": "x"}, {"tokens": 2, "loss": 3.0}], "validation": []}
    for at in (*DRAWN, *NAMES) if isinstance(other, str) else DRAWN:
        expedition = replaced(expedition, at, other)
    assert render(expedition, samples={}, history=history).count("<svg") >= 8


@pytest.mark.parametrize("content", ['["a"]', "3", '"x"', "null", "[" * 100_000, '{"curation": ["x"]}', ""])
def test_a_file_of_another_kind_is_refused_and_nothing_is_written(directory: Path, content: str) -> None:
    (directory / "expedition.json").write_text(content)
    with pytest.raises(InputError) as told:
        write_report(directory)
    assert told.value.where is not None and told.value.where.endswith("expedition.json")
    assert not (directory / "report.html").exists()


def test_a_file_nested_too_deeply_is_refused(directory: Path, expedition: dict[str, Any]) -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    (directory / "expedition.json").write_text(json.dumps(expedition | {"recipe": {"x": deep}}))
    with pytest.raises(InputError, match="nested more than 40 levels"):
        write_report(directory)
