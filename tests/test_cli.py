"""The verbs: each exists, each says what it cannot do yet, and `--json` prints one object alone."""

import json

import pytest
from typer.testing import CliRunner

from megalith import __version__
from megalith.cli import app

runner = CliRunner()


def test_the_version_is_printed() -> None:
    assert runner.invoke(app, ["--version"]).stdout == f"megalith {__version__}\n"


VERBS = (
    "run",
    "curate",
    "tokenize",
    "train",
    "evaluate",
    "audit",
    "score",
    "generate",
    "serve",
    "report",
    "recipe show",
    "recipe list",
    "plan layout",
    "plan ranks",
    "plan dryrun",
    "plan budget",
    "plan timeline",
    "plan validate",
    "plan calibrate",
    "scaling fit",
    "scaling predict",
    "scaling study",
    "blend",
    "blend search",
)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str) -> None:
    result = runner.invoke(app, [*verb.split(), "--help"])
    assert result.exit_code == 0
    assert "--json" in result.stdout


def test_recipe_show_says_where_each_value_came_from() -> None:
    result = runner.invoke(app, ["recipe", "show", "quickstart", "train.beta2=0.9", "--json"])
    shown = json.loads(result.stdout)
    assert shown["recipe"]["train"]["beta2"] == 0.9
    assert shown["origins"]["train.beta2"] == "override 'train.beta2=0.9'"
    assert shown["origins"]["train.beta1"] == "default"
    assert shown["origins"]["train.global_batch_size"].startswith("recipes/quickstart.yaml:")
    table = runner.invoke(app, ["recipe", "show", "quickstart"])
    assert "train.beta1" in table.stdout


def test_recipe_list_counts_parameters() -> None:
    recipes = json.loads(runner.invoke(app, ["recipe", "list", "--json"]).stdout)["recipes"]
    counts = {recipe["name"]: recipe["parameters"] for recipe in recipes}
    assert counts["quickstart"] is None
    assert counts["gpt3-175b"] == pytest.approx(175e9, rel=0.01)


def test_plan_budget_answers_by_each_law() -> None:
    result = runner.invoke(app, ["plan", "budget", "--flops", "5.76e23", "--json"])
    laws = {law["law"]: law for law in json.loads(result.stdout)["laws"]}
    # Chinchilla's own budget: 67B by approach 1 (paper, Table 3), 40B by approach 3's law as printed
    assert laws["chinchilla-1"]["parameters"] == pytest.approx(67e9, rel=0.1)
    assert laws["chinchilla-3"]["parameters"] == pytest.approx(40e9, rel=0.25)
    assert result.exit_code == 0
    nothing = runner.invoke(app, ["plan", "budget"])
    assert nothing.exit_code == 2
