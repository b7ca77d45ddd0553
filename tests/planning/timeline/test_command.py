"""`megalith plan timeline`: what it prints and where it draws."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from megalith.cli.plan.timeline import plan_timeline

app = typer.Typer()
app.command("timeline")(plan_timeline)
RECIPE = ["gpt3-175b", "parallel.pipeline=4", "parallel.data=2", "cluster.nodes=8", "train.global_batch_size=16",
          "train.batch_ramp=null"]  # fmt: skip


def run(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*RECIPE, *words])
    return result.exit_code, result.stdout, result.stderr


def test_json_is_all_that_json_prints_and_draws_nothing_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("--durations", "unit", "--schedule", "1f1b", "--schedule", "zb-h1", "--json")
    found = json.loads(out)
    assert code == 0
    assert [row["schedule"] for row in found["schedules"]] == ["1f1b", "zb-h1"]
    assert (found["clock"], found["pipeline"], found["micro_batches"]) == ("forwards", 4, 8)
    first, second = found["schedules"]
    assert first["step_seconds"] == 33.0  # 3 (m + p − 1)
    assert second["step_seconds"] == 27.0  # 3 m + (p − 1)(F + I − W), 2401.10241, table 2
    assert first["in_flight"] == [4, 3, 2, 1]
    assert first["bubble_fractions"] == pytest.approx([9 / 33] * 4)
    assert first["peak_bytes"] is None
    assert found["files"] == []
    assert list(tmp_path.iterdir()) == []


def test_it_draws_where_it_is_told_and_else_beside_the_expedition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("--durations", "50,55,45,2", "-o", "step.svg")
    assert code == 0
    assert "1f1b" in out
    assert [path.name for path in tmp_path.iterdir()] == ["step.svg"]
    assert run("--durations", "50,55,45,2")[0] == 0
    drawn = sorted(path.name for path in (tmp_path / "runs" / "gpt3-175b" / "timeline").iterdir())
    assert drawn == ["timeline.html", "timeline.json", "timeline.png", "timeline.svg"]


@pytest.mark.parametrize(
    "words",
    [["--durations", "1,2"], ["--durations", "unit", "-o", "a.pdf"], ["--durations", "unit", "--schedule", "x"]],
)
def test_what_cannot_be_drawn_ends_with_code_2(words: list[str]) -> None:
    assert run(*words)[0] == 2


def test_a_schedule_that_does_not_fit_is_told(tmp_path: Path) -> None:
    """GPT-3 on 32 ranks a replica: 18 bytes a parameter are 98 GB."""
    code, out, err = run("-o", str(tmp_path / "step.svg"))
    assert code == 0
    assert "> 85.0 GB" in " ".join(out.split())
    assert "1f1b does not fit" in " ".join(err.split())
