"""The pages of what was judged: beside the artifact, self-contained, every figure with its interval, texts as text."""

import base64
import hashlib
import html
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from megalith.artifacts import verify
from megalith.errors import InputError
from megalith.evaluation.compare import compare
from megalith.report import write_audit, write_comparison, write_evaluation
from megalith.report.audit_views import section
from megalith.report.judged_items import labels, read_results
from tests.evaluation.judged import choices, judged
from tests.report.conftest import HOSTILE
from tests.report.judged import choice, write_audit_artifact, write_evaluate


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("judged")
    found = {
        "evaluate": write_evaluation(write_evaluate(place / "runs" / "evaluate").path),
        "audit": write_audit(write_audit_artifact(place / "runs" / "audit").path),
    }
    tasks = {("boolq", 0): choices([1.0, 0.0] * 30), ("wic", 0): choices([1.0, 0.0], shots=[1])}
    others = {("boolq", 0): choices([1.0, 1.0] * 30), ("wic", 0): choices([1.0, 0.0], shots=[2])}
    a, b = (
        judged(place / HOSTILE.replace("/", "")[:40].replace("\x00", ""), tasks),
        judged(place / "b", others, model="b"),
    )
    compared = compare([a.path], [b.path], margin_points=1, margin_percent=0.5, flips=True)
    found["compare"] = write_comparison(asdict(compared), place / "new" / "compare.html")
    return {name: path.read_text(encoding="utf-8") for name, path in found.items()}


@pytest.mark.parametrize("name", ["evaluate", "audit", "compare"])
def test_a_page_asks_for_nothing_and_runs_nothing_but_its_own_script(pages: dict[str, str], name: str) -> None:
    text = pages[name]
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])  # type: ignore[index]
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == text.count("<script") == (name == "evaluate")
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy and "unsafe-inline'" not in policy.split("script-src")[1]
    assert policy.startswith("default-src 'none'")
    assert "<img" not in text and "\u202e" not in text and "\x1b" not in text and "\x00" not in text
    assert not re.search(r'(?:src|href)="(?!data:,"|#)', text)
    assert not re.search(r"\son\w+=", re.sub(r">[^<]*<", "><", text))


def test_every_score_is_drawn_with_its_interval_and_chance(pages: dict[str, str]) -> None:
    scores = pages["evaluate"].split('id="scores"')[1].split("</section>")[0]
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", scores, re.DOTALL)
    assert len(rows) == 6
    drawn = [one for one in rows if "<circle" in one]
    assert len(drawn) == 5 and all('class="interval"' in one for one in drawn)
    assert sum('class="reference"' in one for one in rows) == 1  # boolq alone has a chance and a score
    assert "100 clusters" in rows[0] and "60.0 %" in rows[0] and "48.0 % – 72.0 %" in rows[0]


def test_items_are_listed_to_a_bound_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megalith.report.evaluation_page.MOST_ROWS", 80)
    text = write_evaluation(write_evaluate(tmp_path / "evaluate").path).read_text()
    listed = re.findall(r'<tr data-task="([^"]*)" data-outcome="([^"]*)">', text)
    assert len(listed) == 20 + 20 + 20 + 1
    assert "61 of 361 items are listed, drawn evenly over the files of all" in text
    assert {outcome for _, outcome in listed} == {"right", "wrong", ""}
    assert len(text) < 400_000
    assert "the end?" in text and "x" * 1500 not in text


def test_predicted_answers_are_named_by_their_class_and_add_up() -> None:
    found = labels([choice(place) for place in range(300)])
    assert found == [("no", 200, 150), ("yes", 100, 150)]


def test_contamination_and_fields_are_told(pages: dict[str, str]) -> None:
    assert "cannot tell: 8 dirty documents, and 10 are needed" in pages["evaluate"]
    assert "any 13 words in a row: 18 of 298 dirty, 2 too short" in pages["evaluate"]
    assert "by subject: 1 value" in pages["evaluate"]


def test_hans_is_a_table_of_sub_cases_and_margins_by_shots(pages: dict[str, str]) -> None:
    text = pages["audit"]
    assert re.findall(r"--heat: (\d+)%", text) == ["90", "10"] * 15
    assert text.count('class="plot counts"') == 2
    assert "0 shots" in text and "4 shots" in text
    assert "<strong>Limits.</strong> One prompt." in text


def test_an_instrument_without_a_form_of_its_own_is_drawn_too(pages: dict[str, str]) -> None:
    part = pages["audit"].split('<section id="new-instrument">')[1].split("</section>")[0]
    assert "Groups, accuracy, from 0.0 % to 100.0 %" in part
    assert part.count("<circle") == 3 and "−0.500" in part and "p 0.010" in part
    assert 'd="M40.5 2V16"' in part  # chance, 0.25 of the way
    assert "no official files below MEGALITH_DATA" in pages["audit"]


def test_words_without_intervals_and_probes_are_listed(pages: dict[str, str]) -> None:
    text = pages["audit"]
    words = text.split('<section id="adjectives">')[1].split("</section>")[0]
    assert "Words: 1 row" in words and "gender, she, " in words and "0.0200" in words
    moved = text.split('<section id="in-context">')[1].split("</section>")[0]
    assert [found.count("<circle") for found in moved.split("<table")[1:]] == [2, 2]
    assert "Counts, correct, difference" in moved and "hans, 4 shots" in moved
    assert "riddles; not found" in text


def test_both_sides_flips_and_refusals_are_on_the_page_of_a_comparison(pages: dict[str, str]) -> None:
    text = pages["compare"]
    assert "B is better" in text and "0 to wrong, 30 to right" in text
    assert '<code dir="auto">q1</code>' in text
    assert "the shots differ" in text.split('id="left-out"')[1]


def test_the_artifact_is_left_as_it_was_and_a_wrong_form_is_named(tmp_path: Path) -> None:
    made = write_evaluate(tmp_path / "evaluate")
    assert write_evaluation(made.path) == tmp_path / "evaluate.html"
    (state,) = verify(made.path)
    assert not state.damaged
    wrong = write_evaluate(tmp_path / "wrong", facts={"by_field": [{"field": 3}]})
    with pytest.raises(InputError, match=r"not of the form that Megalith writes: by_field\.0"):
        write_evaluation(wrong.path)
    assert not (tmp_path / "wrong.html").exists()
    audit = write_audit_artifact(tmp_path / "audit", {"hans": {"subcases": "all"}})
    with pytest.raises(InputError, match=r"hans\.subcases"):
        write_audit(audit.path)
    (tmp_path / "lines.jsonl").write_text("[1]\n")
    with pytest.raises(InputError, match="line 1: this line is not an object"):
        read_results(tmp_path / "lines.jsonl")


def test_a_row_of_counts_is_named_by_its_solved_examples() -> None:
    rows = [{"plan": count, "accuracy": 0.5, "interval": [0.4, 0.6]} for count in ("0", "1", "4")]
    (table,) = section("hans_shots", {"tables": {"counts": rows}}).tables
    assert (table.title, [line.name for line in table.lines]) == ("Counts, accuracy", ["0 shots", "1 shot", "4 shots"])
