"""`megalith score`: requests in a file, scores in a file."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from megalith.artifacts import file_digest
from megalith.cli import app
from megalith.errors import InputError
from megalith.evaluation import score_file as room
from megalith.evaluation.score_file import PARTIAL, ScoreSettings, read_requests, score_file
from megalith.inference import LanguageModel, Request, score
from megalith.inference.scoring import score_as_read

ROWS: list[dict[str, Any]] = [
    {"id": 7, "context": "The baker said that the", "choices": [{"continuation": " nurse"}, " man"], "label": 1},
    {"id": "石", "context": "", "choices": ["Is it True"]},
    {"id": None, "context": "The nurse laughed", "choices": [" at", " so", " True"]},
]
GOOD = json.dumps(ROWS[0])


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


def test_a_line_of_scores_for_each_request_in_their_order(
    lm: LanguageModel, model_directory: Path, tmp_path: Path
) -> None:
    requests, out = write(tmp_path / "requests.jsonl", ROWS), tmp_path / "new" / "scores.jsonl"
    done = CliRunner().invoke(app, ["score", str(model_directory), str(requests), "-o", str(out), "--prefix", "none"])
    assert done.exit_code == 0, done.output
    assert "3 requests, 6 choices" in done.stderr and done.stdout == ""
    asked = [Request("The baker said that the", (" nurse", " man")), Request("", ("Is it True",))]
    asked.append(Request("The nurse laughed", (" at", " so", " True")))
    wanted = score(lm, asked, 4096, prefix="none", boundary="lm_eval")
    for line, row, scores in zip(out.read_text().splitlines(), ROWS, wanted, strict=True):
        assert json.loads(line) == {
            "id": row["id"],
            "log_probabilities": pytest.approx([one.log_probability for one in scores], abs=1e-6),
            "greedy": [one.greedy for one in scores],
            "tokens": [one.tokens for one in scores],
        }
    assert [path.name for path in out.parent.iterdir()] == ["scores.jsonl"]
    as_json = CliRunner().invoke(app, ["score", str(model_directory), str(requests), "-o", str(out), "--json"])
    assert json.loads(as_json.stdout)["choices"] == 6


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: this is not JSON"),
        ("[1]", "not a JSON object"),
        ('{"id": 1, "choices": [" a"]}', "no context"),
        ('{"context": "", "id": 1}', "no choices"),
        ('{"context": "", "choices": [" a"]}', "no id"),
        ('{"id": 1, "context": 3, "choices": [" a"]}', "not a text"),
        ('{"id": 1, "context": "", "choices": []}', "not a list of at least one"),
        ('{"id": 1, "context": "", "choices": [" a", ""]}', "choice 2 of this request is empty"),
        ('{"id": 1, "context": "", "choices": [{"text": " a"}]}', "choice 1 of this request has no text"),
        ('{"id": 1, "context": "\\ud800", "choices": [" a"]}', "lone surrogate"),
    ],
)
def test_a_line_that_is_not_a_request_is_refused_with_its_number(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(InputError, match=r"requests\.jsonl, line 2") as refused:
        read_requests(path)
    assert said in str(refused.value)


def test_other_bad_files_are_refused(model_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "latin.jsonl").write_bytes(GOOD.encode() + b'\n{"id": "\xe9"}')
    good = write(tmp_path / "good.jsonl", ROWS)
    for name, output, said in [
        ("empty.jsonl", "out", "has no requests"),
        ("latin.jsonl", "out", "line 2: this line is not UTF-8"),
        ("none.jsonl", "out", "cannot be read"),
        ("good.jsonl", "good.jsonl", "these are the requests"),
        ("good.jsonl", ".", "this is a directory"),
    ]:
        words = ["score", str(model_directory), str(tmp_path / name), "-o", str(tmp_path / output)]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2 and said in " ".join(done.stderr.split()), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "good.jsonl", "latin.jsonl"]
    assert read_requests(good)[2].line == 3


def test_a_long_context_is_cut_and_counted_or_refused(lm: LanguageModel, tmp_path: Path) -> None:
    long = {"id": 1, "context": "The nurse laughed at the pilot. " * 9, "choices": [" True", " False"]}
    asked = read_requests(write(tmp_path / "requests.jsonl", [ROWS[0], long]))
    made = score_file(lm, asked, tmp_path / "out", ScoreSettings(), {})
    assert (made.requests, made.choices, made.truncated, made.straddled) == (2, 4, 2, 0)
    with pytest.raises(InputError, match=r"line 2 has \d+ tokens with its longest choice, and the model reads 32"):
        score_file(lm, asked, tmp_path / "other", ScoreSettings(too_long="error"), {})
    assert not (tmp_path / "other").exists()


def test_a_killed_run_goes_on_with_what_it_had_not_scored(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, out = write(tmp_path / "requests.jsonl", ROWS), tmp_path / "scores.jsonl"
    asked, settings = read_requests(requests), ScoreSettings(batch_tokens=1)
    scored: list[int] = []

    def dies(lm: LanguageModel, given: list[Request], *args: Any, **kwargs: Any) -> Any:
        for number, scores in score_as_read(lm, given, *args, **kwargs):
            if len(scored) == 2:
                raise KeyboardInterrupt
            scored.append(number)
            yield number, scores

    origin = {"requests": file_digest(requests)}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(room, "score_as_read", dies)
        score_file(lm, asked, out, settings, origin)
    partial = out.with_name(out.name + PARTIAL)
    assert not out.exists() and len(partial.read_text().splitlines()) == 3
    with partial.open("a") as torn:
        torn.write('{"place": 1, "sco')
    seen: list[int] = []

    def counts(lm: LanguageModel, given: list[Request], *args: Any, **kwargs: Any) -> Any:
        seen.append(len(given))
        return score_as_read(lm, given, *args, **kwargs)

    left = partial.read_bytes()
    monkeypatch.setattr(room, "score_as_read", counts)
    assert score_file(lm, asked, out, settings, origin).resumed == 2
    assert not partial.exists()
    whole = score_file(lm, asked, tmp_path / "at-once.jsonl", settings, origin)
    assert (whole.resumed, seen) == (0, [1, 3])
    assert out.read_bytes() == (tmp_path / "at-once.jsonl").read_bytes()
    partial.write_bytes(left)  # of other requests: not taken
    assert score_file(lm, asked, out, settings, {"requests": "others"}).resumed == 0
