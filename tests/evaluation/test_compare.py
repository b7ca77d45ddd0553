"""Two evaluations side by side: planted differences come out as planted, and what cannot be compared is named."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from megalith.cli import app
from megalith.errors import InputError
from megalith.evaluation.compare import Comparison, compare
from tests.evaluation.judged import choices, judged


def both(a: list[Path], b: list[Path], **options: Any) -> Comparison:
    return compare(a, b, **{"margin_points": 1.0, "margin_percent": 0.5, **options})


def pair(tmp_path: Path, old: Any, new: Any, **row: Any) -> Comparison:
    a = judged(tmp_path / "a", old, model="a", **row).path
    b = judged(tmp_path / "b", new, model="b", **row).path
    return both([a], [b], flips=True)


def test_flips_and_mcnemars_test_are_those_of_the_planted_items(tmp_path: Path) -> None:
    old = [1.0] * 40 + [0.0] * 20 + [1.0] * 4 + [0.0] * 36
    new = [1.0] * 40 + [1.0] * 20 + [0.0] * 4 + [0.0] * 36
    found = pair(tmp_path, {("boolq", 0): choices(old)}, {("boolq", 0): choices(new)})
    (row,) = found.rows
    assert (row["right_to_wrong"], row["wrong_to_right"], row["test"]) == (4, 20, "McNemar")
    assert row["flips"]["right_to_wrong"] == ["q60", "q61", "q62", "q63"]
    assert (row["a"], row["b"], row["difference"]) == pytest.approx((0.44, 0.6, 0.16))
    assert row["p"] == row["p_adjusted"] == pytest.approx(stats.binomtest(4, 24).pvalue)
    assert row["interval"][0] < 0.16 < row["interval"][1]
    assert row["verdict"] == "B is better"
    assert row["smallest_visible"] == pytest.approx(2.8 * row["standard_error"], rel=0.03)


@pytest.mark.parametrize(("items", "verdict"), [(50, "cannot tell"), (2000, "the same within the margin")])
def test_only_enough_equal_items_are_called_the_same(tmp_path: Path, items: int, verdict: str) -> None:
    scores = [float(place % 2) for place in range(items)]
    found = pair(tmp_path, {("piqa", 0): choices(scores)}, {("piqa", 0): choices(scores)})
    assert found.rows[0]["difference"] == 0
    assert found.rows[0]["verdict"] == verdict


def test_items_of_one_passage_count_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    groups = [f"g{place // 10}" for place in range(200)]
    old = [1.0] * 200
    new = np.repeat(rng.integers(0, 2, size=20), 10).astype(float).tolist()
    found = pair(tmp_path, {("race", 0): choices(old, groups)}, {("race", 0): choices(new, groups)})
    (row,) = found.rows
    assert (row["clusters"], row["documents"], row["test"]) == (20, 200, "paired t")
    alone = pair(tmp_path / "2", {("race", 0): choices(old)}, {("race", 0): choices(new)}).rows[0]
    assert row["standard_error"] == pytest.approx(math.sqrt(10) * alone["standard_error"], rel=0.1)


def test_a_perplexity_is_compared_by_its_ratio_and_a_tokens_only_for_one_tokenizer(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(50, 500, size=60).tolist()
    nats = [size * float(rng.normal(2.0, 0.2)) for size in sizes]

    def results(scale: float, cut: int) -> list[dict[str, Any]]:
        return [
            {"id": str(place), "nats": scale * cost, "tokens": size // cut, "bytes": size}
            for place, (size, cost) in enumerate(zip(sizes, nats, strict=True))
        ]

    found = pair(tmp_path, {("perplexity", 0): results(1, 4)}, {("perplexity", 0): results(0.99, 5)})
    rows = {row["metric"]: row for row in found.rows}
    assert rows["token_perplexity"]["difference"] is None and "tokenizers differ" in rows["token_perplexity"]["note"]
    mean = sum(nats) / sum(sizes)
    assert rows["byte_perplexity"]["a"] == pytest.approx(math.exp(mean))
    assert rows["byte_perplexity"]["difference"] == pytest.approx(math.exp(-0.01 * mean) - 1)
    assert rows["bits_per_byte"]["difference"] == pytest.approx(-0.01 * mean / math.log(2))
    assert rows["byte_perplexity"]["verdict"] == "B is better"
    assert rows["byte_perplexity"]["p"] == pytest.approx(rows["bits_per_byte"]["p"])


def test_shots_and_trainings_have_noise_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    ease = rng.normal(size=400)

    def side(name: str, gain: float) -> list[Path]:
        made = []
        for training in range(3):
            model, luck = f"{name}{training}", rng.normal(0, 0.3)
            for draw, effect in enumerate((-0.5, 0.0, 0.5)):
                scores = (ease + gain + luck + (effect if name == "b" else 0) > 0).astype(float).tolist()
                results = choices(scores, shots=[draw, 7])
                made.append(judged(tmp_path / f"{model}-{draw}", {("cb", 2): results}, model=model))
        return [one.path for one in made]

    a, b = side("a", 0.0), side("b", 0.1)
    (row,) = both(a, b).rows
    assert (row["trainings"], row["draws"]) == ([3, 3], 3)
    assert row["noise"]["shots"] > row["noise"]["items"] and row["noise"]["seeds"] > row["noise"]["items"]
    parts = sum(row["noise"][kind] ** 2 for kind in ("items", "shots", "seeds"))
    assert row["standard_error"] == pytest.approx(math.sqrt(parts))
    # With one training and one draw on each side, the items alone speak.
    (one,) = both(a[:1], b[:1]).rows
    assert one["noise"] == {"items": pytest.approx(one["standard_error"]), "shots": None, "seeds": None}


def test_what_differs_is_named_and_the_rest_compared(tmp_path: Path) -> None:
    fine = choices([1.0, 0.0, 1.0])
    old = {("boolq", 0): fine, ("wic", 1): choices([1.0] * 3, shots=[4]), ("cb", 0): fine, ("rte", 0): fine}
    new = {
        ("boolq", 0): choices([1.0, 1.0, 1.0, 1.0]),
        ("wic", 1): choices([1.0] * 3, shots=[5]),
        ("rte", 0): choices([1.0] * 3, gold=[1]),
        ("copa", 0): fine,
    }
    found = pair(tmp_path, old, new)
    assert [(row["name"], row["left_out"]) for row in found.rows] == [("boolq", 1)]
    why = {one["name"]: one["why"] for one in found.refused}
    assert set(why) == {"wic", "cb", "rte", "copa"}
    assert why["wic"].startswith("the shots differ") and "right answer of item q0" in why["rte"]
    assert (why["cb"], why["copa"]) == ("only A has it", "only B has it")


def test_other_files_of_a_task_are_refused_in_words(tmp_path: Path) -> None:
    tasks = {("boolq", 0): choices([1.0, 0.0])}
    a = judged(tmp_path / "a", tasks, task_digest="aaaa").path
    b = judged(tmp_path / "b", tasks, task_digest="bbbb").path
    with pytest.raises(InputError, match=r"compared: boolq, 0 shots: the task's file differs \(aaaa, bbbb"):
        both([a], [b])
    with pytest.raises(InputError, match="named twice"):
        both([a, a], [b])
    with pytest.raises(InputError, match="a margin of 0"):
        both([a], [b], margin_points=0)
    with pytest.raises(InputError, match="a finished evaluate artifact is missing"):
        both([a], [tmp_path])


def test_cut_prompts_are_told_and_generated_answers_have_their_bits_too(tmp_path: Path) -> None:
    results = [{"id": str(at), "correct": at % 2 == 0, "bits_per_byte": 1.5, "truncated": at < 3} for at in range(20)]
    found = pair(tmp_path, {("gsm8k", 5): results}, {("gsm8k", 5): [one | {"truncated": False} for one in results]})
    tests = [(row["metric"], row["test"]) for row in found.rows]
    assert tests == [("exact_match", "McNemar"), ("bits_per_byte", "paired t")]
    assert found.rows[0]["note"] == "prompts cut to fit the context: 3 for a, 0 for b"
    assert found.rows[0]["a"] == 0.5


def test_a_task_without_a_score_keeps_its_note(tmp_path: Path) -> None:
    tasks = {("boolq", 0): choices([0.5, 0.5])}
    found = pair(tmp_path, tasks, tasks, score=None, note="2 of 2 items tie exactly")
    assert found.rows[0]["a"] is None and "2 of 2 items tie exactly" in found.rows[0]["note"]
    assert found.rows[0]["verdict"] == "cannot tell"


def test_the_verb_prints_a_table_or_one_object(tmp_path: Path) -> None:
    a = judged(tmp_path / "runs" / "one" / "evaluate", {("boolq", 0): choices([1.0, 0.0] * 30)}).path
    b = judged(tmp_path / "two", {("boolq", 0): choices([1.0, 1.0] * 30)}, model="b").path
    told = CliRunner().invoke(app, ["compare", str(a.parent), str(b), "--json"])
    assert told.exit_code == 0
    assert json.loads(told.stdout)["rows"][0]["wrong_to_right"] == 30
    shown = CliRunner().invoke(app, ["compare", str(a), str(b), "--flips"])
    assert shown.exit_code == 0 and "B is better" in shown.output.replace("\n", " ")
    assert "wrong to right: q1, q3" in shown.output.replace("\n", " ")
