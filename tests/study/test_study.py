"""A study: its design adds up, what stands is not run again, wrong rates are flagged, laws and page are left."""

import csv
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from megalith.arithmetic import flops_per_token
from megalith.artifacts import Workspace, produce
from megalith.errors import MegalithError, RecipeError
from megalith.recipe import Recipe, load_recipe
from megalith.study import Design, design, further, running
from megalith.study.cells import prepare_cell
from megalith.study.ledger import collect, read_rows
from megalith.study.results import corner_checks, results, seed_noise
from megalith.study.slurm import write_array, write_tasks
from tests.conftest import ROOT
from tests.study.fake_train import command_for, leave
from tests.submission import fake_slurm

BUDGETS = (4e11, 1.2e12, 4e12)
RECIPE = {
    "name": "sweep", "about": "A sweep.", "budget": {"flops": 1e12}, "tokenize": {"vocab_size": 512},
    "model": {"vocab_size": 512, "sequence_length": 64, "positions": "rotary", "norm": "rmsnorm",
              "activation": "swiglu", "bias": False, "tie_embeddings": False},
    "train": {"global_batch_size": 8, "learning_rate": 3.0e-3, "precision": "fp32"},
}  # fmt: skip


def recipe(tmp_path: Path) -> Recipe:
    import yaml

    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(RECIPE))
    return load_recipe(tmp_path / "sweep.yaml")[0]


@pytest.fixture
def plan(tmp_path: Path) -> Design:
    return design(recipe(tmp_path), budgets=BUDGETS, sizes=5, ratio=1.7, seeds=2)


def test_every_cell_spends_its_budget_and_sizes_are_shared(plan: Design) -> None:
    grid = [cell for cell in plan.cells if cell.role == "grid"]
    assert len(grid) == 15 and len(plan.cells) == 15 + 3 + 4
    for cell in plan.cells:
        assert cell.flops == pytest.approx(cell.budget, rel=0.02)
        assert cell.flops == flops_per_token(cell.model) * cell.tokens
        assert cell.tokens == cell.steps * cell.batch * 64
    for budget in BUDGETS:
        own = sorted(cell.counted for cell in grid if cell.budget == budget)
        ratios = [own[-1] / own[0]]
        assert len(set(own)) == 5 and 5 < ratios[0] < 12
    assert len({cell.counted for cell in grid}) < 12  # of 15: neighbouring budgets have sizes in common
    assert len({cell.digest for cell in plan.cells}) == len(plan.cells)
    assert plan.flops == pytest.approx(sum(cell.flops for cell in plan.cells))


def test_the_learning_rate_falls_with_flops_and_rises_with_the_root_of_the_batch(plan: Design) -> None:
    rates = {cell.budget: (cell.learning_rate, cell.batch) for cell in plan.cells if cell.role == "grid"}
    (low, small), (high, large) = rates[BUDGETS[0]], rates[BUDGETS[-1]]
    expected = (BUDGETS[-1] / BUDGETS[0]) ** -0.125 * (large / small) ** 0.5
    assert high / low == pytest.approx(expected, rel=1e-3)
    corners = {cell.name: cell for cell in plan.cells if cell.role == "corner"}
    assert len(corners) == 4
    for cell in corners.values():
        base = rates[cell.budget][0]
        assert cell.learning_rate / base == pytest.approx(2 if "high" in cell.name else 0.5, rel=1e-3)


def test_a_sum_of_flops_is_split_over_four_budgets(tmp_path: Path) -> None:
    made = design(recipe(tmp_path), flops=4e14)
    assert len(made.budgets) == 4
    assert made.budgets[-1] / made.budgets[0] == pytest.approx(20)
    assert made.flops == pytest.approx(4e14, rel=0.05)


def test_what_cannot_be_designed_is_refused(tmp_path: Path) -> None:
    base = recipe(tmp_path)
    for options, said in (
        ({}, "neither budgets nor FLOPs"), ({"budgets": (1e12,)}, "two budgets"), ({"budgets": (1e8, 1e9)}, "no shape"),
        ({"budgets": (4e11, 4e12), "ratio": 9.0}, "9 times apart"),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=said):
            design(base, **options)  # type: ignore[arg-type]  # mypy joins the kinds of values
    with pytest.raises(RecipeError, match="of one precision, and it is left open"):
        design(load_recipe(base, ["train.precision=auto"])[0], budgets=BUDGETS)
    with pytest.raises(RecipeError, match=r"steps of .* sequences, and 50 are needed"):
        design(load_recipe(base, ["train.global_batch_size=2048"])[0], budgets=BUDGETS)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with tokens, in which cells are made by the stand-in."""
    directory = tmp_path / "study"

    def build(workspace: Workspace) -> dict[str, Any]:
        workspace.write_json("tokens.json", {})
        return {"tokens": {"train": 10**9, "validation": 10**6}}

    produce(directory / "tokenize", stage="tokenize", settings={}, inputs={}, seed=0, build=build)
    monkeypatch.setattr(running, "_tokens", lambda *_: 10**9)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return directory


def test_a_study_runs_once_flags_a_wrong_rate_and_leaves_laws_and_page(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best rate is twice the recipe's: the corner cells at twice the rate do better, and the study says so.

    Two budgets of three sizes first: too few for a law, which is said.
    """
    base = recipe(tmp_path)
    small = design(base, budgets=BUDGETS[:2], sizes=3, ratio=1.7, seeds=1)
    monkeypatch.setattr(running, "command", command_for(best_rate=6e-3))
    with monkeypatch.context() as broken:
        broken.setattr(running, "command", command_for(6e-3, fails=small.cells[2].name))
        with pytest.raises(MegalithError, match=f"cell {small.cells[2].name} failed: out of paper"):
            running.study(base, place, small, jobs=1)
    stood = read_rows(place)
    assert 1 <= len(stood) <= 2
    shutil.rmtree(place / "cells")  # the rows are enough
    found = running.study(base, place, small, jobs=3)
    assert not found["missing"]
    assert {row["cell"] for row in stood} <= {row["cell"] for row in found["rows"]}
    assert not {path.name for path in (place / "cells").glob("b*")} & {row["cell"] for row in stood}
    flagged = [check["cell"] for check in found["corners"] if check["better"]]
    assert flagged and all("high-rate" in name for name in flagged)
    assert "not at its optimum: 2 times it lowers the loss" in found["warnings"][0]


def test_a_whole_study_is_fitted_and_drawn(tmp_path: Path, place: Path, plan: Design) -> None:
    base = recipe(tmp_path)
    running.prepare(base, place, plan, [])
    for cell in plan.cells:
        prepare_cell(cell, place)
        leave(place / "cells" / cell.name / "train", cell.overrides, place / "recipe.yaml", cell.learning_rate)
    found = results(place, "sweep", plan, collect(place, plan))
    assert found["fit"]["points"] == 18  # corner cells are apart
    assert found["seed_noise"]["pooled"] == pytest.approx(0.002, rel=2)
    page = Path(found["page"]).read_text()
    assert "<svg" in page and "IsoFLOP" in page and "b0-" in page
    assert "<title>sweep: scaling study</title>" in page and "<h1>sweep</h1>" in page
    assert f"{place}/RUNS.csv" in page  # the directory, in the footer
    assert "http://" not in page.replace("http://www.w3.org", "")
    with (place / "RUNS.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 18
    script = write_array(place, plan).read_text()
    assert "--array=1-1" in script  # nothing is left to run


def test_rows_are_in_the_order_of_the_design_whichever_run_ended_first(tmp_path: Path, place: Path) -> None:
    """Two directories, in which the same runs end in opposite orders, have the same tables: the law is the same."""
    base = recipe(tmp_path)
    plan = design(base, budgets=BUDGETS[:2], sizes=3, ratio=1.7, seeds=2)
    other = tmp_path / "other"
    shutil.copytree(place, other)
    for directory, cells in ((place, plan.cells), (other, plan.cells[::-1])):
        running.prepare(base, directory, plan, [])
        for cell in cells:
            prepare_cell(cell, directory)
            leave(directory / "cells" / cell.name / "train", cell.overrides, directory / "recipe.yaml", 6e-3)
            rows = collect(directory, plan)
        assert [row["cell"] for row in rows] == [cell.name for cell in plan.cells]
    for table in ("RUNS.csv", "CORNERS.csv"):
        assert (place / table).read_text() == (other / table).read_text()
    assert collect(place, plan) == collect(other, plan)


def test_a_slurm_array_has_a_line_for_each_cell(tmp_path: Path, place: Path, plan: Design) -> None:
    running.prepare(recipe(tmp_path), place, plan, [])
    script = write_array(place, plan).read_text()
    lines = (place / "cells.txt").read_text().splitlines()
    assert len(lines) == len(plan.cells) and f"--array=1-{len(lines)}" in script
    assert all(" train " in line and f"--output {place}/cells/" in line for line in lines)


@pytest.mark.parametrize(("ends", "code", "queued"), [("true", 0, 0), ("kill -TERM $$", 143, 1), ("exit 2", 2, 0)])
def test_a_task_that_is_interrupted_is_queued_again_and_one_that_fails_is_not(
    tmp_path: Path, plan: Design, ends: str, code: int, queued: int
) -> None:
    cells = plan.cells[:2]
    script = write_tasks(tmp_path, cells, lambda cell, _: ["bash", "-c", f"echo {cell.name}; {ends}"], "scaling study")
    assert {"--job-name=scaling-study", "--ntasks=1", "--array=1-2", "--requeue", "--open-mode=append",
            "--signal=TERM@120"} == set(fake_slurm.options(script.read_text()))  # fmt: skip
    slurm = fake_slurm.install(tmp_path / "bin") | {"SLURM_ARRAY_TASK_ID": "2", "SLURM_RESTART_COUNT": "9"}
    done = subprocess.run(["bash", str(script)], env=slurm, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, f"{cells[1].name}\n"), done.stderr
    assert fake_slurm.calls(slurm)[1:] == ["scontrol requeue 4711"] * queued


def test_too_little_text_is_refused(tmp_path: Path, place: Path, plan: Design, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_tokens", lambda *_: 1000)
    with pytest.raises(RecipeError, match="some would repeat"):
        running.study(recipe(tmp_path), place, plan)


def test_noise_and_corners_are_reckoned_from_rows() -> None:
    def row(cell: str, role: str, rate: str, loss: float) -> dict[str, str]:
        same = {"budget": "1e12", "parameters_with_head": "1000", "tokens": "10", "batch": "8"}
        return {**same, "cell": cell, "role": role, "learning_rate": rate, "validation_loss": str(loss)}

    rows = [row("a", "grid", "1e-3", 4.0), row("a-seed1", "seed", "1e-3", 4.02), row("a-low", "corner", "5e-4", 4.01),
            row("a-high", "corner", "2e-3", 3.8)]  # fmt: skip
    noise = seed_noise(rows)
    assert noise["pooled"] == pytest.approx(0.005 / 2**0.5, rel=0.01)
    checks = corner_checks(rows, noise)
    assert [check["better"] for check in checks] == [False, True]


def test_the_rate_rises_over_a_token_a_parameter_and_at_most_a_fifth_of_the_run(plan: Design) -> None:
    short = [cell for cell in plan.cells if cell.tokens < 5 * cell.counted]
    assert short and len(short) < len(plan.cells)
    for cell in plan.cells:
        assert cell.warmup_tokens == (cell.tokens // 5 if cell in short else cell.counted)
        assert f"train.warmup_tokens={cell.warmup_tokens}" in cell.overrides


def test_a_cell_beyond_the_budgets_obeys_their_rules(tmp_path: Path, plan: Design) -> None:
    """One at a budget of the study is its own cell of that size; ten times beyond, the rate falls by C^-1/8."""
    known = next(cell for cell in plan.cells if cell.name == "b1-n3")
    same = further(recipe(tmp_path), BUDGETS, known.budget, known.counted, name="b1-n3").cells[0]
    assert same == known
    once, again = further(recipe(tmp_path), BUDGETS, 10 * known.budget, 3 * known.counted, name="far", seeds=2).cells
    assert once.flops == pytest.approx(10 * known.budget, rel=0.02) and once.counted == pytest.approx(
        3 * known.counted, rel=0.25
    )
    assert once.learning_rate / known.learning_rate == pytest.approx(
        10**-0.125 * (once.batch / known.batch) ** 0.5, rel=1e-3
    )
    assert (again.name, again.seed, again.digest != once.digest) == ("far-seed1", once.seed + 1, True)
