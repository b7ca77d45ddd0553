"""The card of an export: the scores that there are."""

from types import SimpleNamespace
from typing import Any

from megalith.interop.model_card import _evaluation, _scores


def test_a_task_without_items_has_no_line() -> None:
    rows: list[dict[str, Any]] = [
        {"name": "last_word", "shots": 0, "metric": "accuracy", "score": None},
        {"name": "arithmetic", "shots": 0, "metric": "exact_match", "score": 0.5, "standard_error": 0.1},
    ]
    beside: Any = {"evaluate": SimpleNamespace(facts={"tasks": rows})}
    model: Any = SimpleNamespace(step=None)
    assert _evaluation(_scores(model, beside)).splitlines()[-1] == "| arithmetic | 0 | exact_match | 0.5 ± 0.1 |"
    assert len(_scores(model, beside)) == 1
