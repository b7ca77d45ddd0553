"""The section `blend`, and what it must agree with."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from megalith.cli import app
from megalith.errors import RecipeError
from megalith.recipe import load_recipe

ONE = "blend.datasets={books: {weight: 0.3}, web: {weight: 0.7}}"


def test_a_blend_is_read_with_its_shares() -> None:
    recipe, _ = load_recipe("quickstart", [ONE])
    assert recipe.blend.shares == {"books": {"weight": 0.3}, "web": {"weight": 0.7}}
    assert load_recipe("quickstart")[0].blend.datasets == {}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("blend.datasets={books: {weight: 0}}", "weight 0 is not above 0: leave the data set out"),
        ("blend.datasets={books: {epochs: -1}}", "epochs -1 is not above 0"),
        ("blend.datasets={books: {tokens: 5}}", "give a weight or epochs"),
        ("blend.datasets={books: {weight: 1, epochs: 2}}", "give a weight or epochs, one of the two"),
        ("blend.datasets={books: {weight: 1}, web: {epochs: 2}}", "some data sets have weights and some epochs"),
        ("blend.datasets={books: {weights: 1}}", "no key 'weights'"),
        ("blend.maximum_epochs=0", "greater than 0"),
    ],
)
def test_what_is_no_blend_is_refused(override: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        load_recipe("quickstart", [override])


def test_it_blends_what_is_curated() -> None:
    curated = "curate.datasets={books: {paths: [a]}, web: {paths: [b]}}"
    load_recipe("quickstart", [ONE, curated])
    with pytest.raises(RecipeError, match=r"blend.datasets has web and curate.datasets has not"):
        load_recipe("quickstart", [ONE, "curate.datasets={books: {paths: [a]}}"])
    with pytest.raises(RecipeError, match=r"curate.datasets has web and blend.datasets has not"):
        load_recipe("quickstart", ["blend.datasets={books: {weight: 1}}", curated])


def test_a_bert_does_not_blend() -> None:
    with pytest.raises(RecipeError, match="a bert reads its corpus as one"):
        load_recipe("bert-336m", [ONE])


def test_the_verb_tells_what_a_run_reads_before_it_starts(tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["blend", "mt-nlg-530b", "--output", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["sizes_from"] == "recipe"
    assert len(told["datasets"]) == 15
    assert told["datasets"][1]["epochs"] == pytest.approx(0.19336 * 270 / 14.8)
    for override in ("blend.maximum_epochs=3.5", "train.tokens=1000000000000"):
        refused = runner.invoke(app, ["blend", "mt-nlg-530b", override, "--output", str(tmp_path)])
        assert refused.exit_code == 2
    nothing = runner.invoke(app, ["blend", "quickstart", "--output", str(tmp_path)])
    assert nothing.exit_code == 2
