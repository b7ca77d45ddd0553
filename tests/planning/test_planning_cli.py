"""`plan layout` and `plan budget` on a cluster, as a person and as a machine read them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from megalith.cli import app
from tests.conftest import ROOT

runner = CliRunner()
SMALL = ("plan", "layout", "gpt2-2.5b", "cluster.name=dgx-a100", "cluster.nodes=2", "train.global_batch_size=64",
         "parallel={}")  # fmt: skip


def asked(*words: str) -> Any:
    result = runner.invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_machine_reads_one_object_with_the_designs_keys() -> None:
    found = asked(*SMALL)
    keys = {"best", "step_seconds", "tflops_per_gpu", "memory_bytes", "bubble_fraction", "interval", "runners_up",
            "candidates_considered", "search_seconds", "parts", "run"}  # fmt: skip
    assert keys <= set(found)
    names = {"tensor", "pipeline", "data", "micro_batch_size", "virtual_stages", "schedule", "recompute",
             "sequence_parallel", "zero"}  # fmt: skip
    assert names <= set(found["best"])
    assert found["best"]["tensor"] * found["best"]["pipeline"] * found["best"]["data"] == 16


def test_a_person_reads_the_best_the_reasons_the_parts_and_the_bill() -> None:
    result = runner.invoke(app, [*SMALL, "--price", "2"])
    assert result.exit_code == 0, result.stderr
    for said in ("best", "why not", "with one choice changed", "computing", "1f1b"):
        assert said in result.stdout
    for said in ("days", "GPU-hours", "MWh", "at that price", "TFLOP/s per GPU", "candidates"):
        assert said in result.stderr


def test_the_best_is_given_as_overrides_that_the_other_verbs_take() -> None:
    lines = runner.invoke(app, [*SMALL]).stderr.split("to train in it: ")[1].split()
    overrides = [word for word in lines if re.fullmatch(r"(parallel|train)\.\w+=\w[\w.-]*", word)]
    found, best = asked("plan", "ranks", *SMALL[2:], *overrides), asked(*SMALL)["best"]
    assert found["layout"] == {axis: best[axis] for axis in ("tensor", "context", "pipeline", "data")}


def test_an_override_is_kept_and_a_price_is_multiplied() -> None:
    found = asked(*SMALL, "parallel.tensor=4", "--price", "3")
    assert found["best"]["tensor"] == 4
    assert found["run"]["money"] == pytest.approx(3 * found["run"]["accelerator_hours"])


def test_a_request_that_cannot_be_is_one_paragraph_and_exit_code_2() -> None:
    result = runner.invoke(app, ["plan", "layout", "gpt3-175b", "cluster.name=dgx-1", "cluster.nodes=1"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "no layout fits" in result.stderr and "cluster.nodes=" in result.stderr
    refused = runner.invoke(app, [*SMALL, "--for", "gpus"])
    assert refused.exit_code == 2
    assert "--deadline" in refused.stderr


def test_gpu_hours_on_a_cluster_buy_what_their_flops_buy_at_the_predicted_mfu() -> None:
    words = ("plan", "budget", "--gpu-hours", "300", "--cluster", "dgx-h100", "--nodes", "1")
    found = asked(*words)
    for law in found["laws"]:
        assert 0.1 < law["mfu"] < 0.8
        assert law["model_flops"] == pytest.approx(300 * 3600 * 989e12 * law["mfu"], rel=0.01)
        assert (
            law["flops"] < law["model_flops"]
        )  # the law's 6·N·D counts neither attention nor, in small models, logits
        assert law["best"]["tensor"] * law["best"]["pipeline"] * law["best"]["data"] == 8
    table = runner.invoke(app, [*words])
    assert "kaplan" in table.stdout and "MFU" in table.stdout


@pytest.mark.parametrize("words", [("--gpu-hours", "100"), ("--cluster", "selene"), ("--nodes", "3")])
def test_half_a_budget_is_refused(words: tuple[str, ...]) -> None:
    result = runner.invoke(app, ["plan", "budget", *words])
    assert result.exit_code == 2
    assert "--gpu-hours H --cluster NAME" in result.stderr


@pytest.mark.parametrize(("words", "mend"), [
    ("--flops 1e21 --nodes 3", "Remove --nodes; or remove --flops and use"),
    ("--flops 1e21 --cluster selene", "Remove --cluster; or remove --flops and use"),
    ("quickstart --gpu-hours 1e6 --cluster selene",
     "Remove --gpu-hours and --cluster; or remove the recipe quickstart and use"),
])  # fmt: skip
def test_of_both_kinds_of_budget_one_is_to_be_left_out(words: str, mend: str) -> None:
    result = runner.invoke(app, ["plan", "budget", *words.split()])
    assert result.exit_code == 2
    assert f"{mend} --gpu-hours H --cluster NAME." in " ".join(result.stderr.split())


def test_a_small_corpus_takes_seconds_which_are_told_by_step() -> None:
    words = ("plan", "curation", "--text", "1e7", "--cores", "1")
    cost, told = asked(*words), runner.invoke(app, [*words])
    for name, seconds in cost["steps"].items():
        assert (name in told.stdout) == (seconds > 0), name
    shares = [float(share) for share in re.findall(r"([\d.]+)%", told.stdout)]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert f"{cost['cpu_hours']['value'] * 3600:.1f} s" in told.stdout
    assert f"{cost['hours'] * 3600:.1f} s on 1 core\n" in told.stderr


@pytest.mark.parametrize(("words", "said"), [
    ("--text nan", "--text"),
    ("--text 1e9 --warc -1", "--warc: -1 is not an amount"),
    ("--text 1e9 --documents 0", "--documents: bytes of no documents"),
    ("--documents 10", "both --text and --warc are missing"),
])  # fmt: skip
def test_an_amount_that_is_none_is_told_by_its_options_name(words: str, said: str) -> None:
    result = runner.invoke(app, ["plan", "curation", *words.split()])
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


def test_a_measured_file_answers_for_this_machine_without_running_anything(tmp_path: Path) -> None:
    kept = json.loads((ROOT / "benchmarks" / "results" / "plan_cpu.json").read_text())
    (tmp_path / "here.json").write_text(json.dumps(kept["blocks"]))
    by_hours = runner.invoke(app, ["plan", "layout", "quickstart", "--measured", str(tmp_path / "here.json")])
    assert by_hours.exit_code == 2 and "budget.hours" in by_hours.stderr
    local = ("plan", "layout", "quickstart", "budget.flops=2e13", "--measured", str(tmp_path / "here.json"))
    found = asked(*local)
    steps = {
        (row["tensor"], row["pipeline"], row["data"], row["zero"]): row["step_seconds"] for row in found["layouts"]
    }
    assert steps[1, 1, 1, 0] == pytest.approx(kept["rows"][0]["predicted_seconds"])
    assert steps[2, 2, 1, 0] == pytest.approx(kept["rows"][4]["predicted_seconds"])
    assert found["not_measured"] > 0
    wider = runner.invoke(app, [*local, "tokenize.vocab_size=5000", "model.vocab_size=5000"])
    assert wider.exit_code == 2 and "measured for a model with vocab_size" in wider.stderr
    assert runner.invoke(app, [*local, "--price", "2"]).exit_code == 2
