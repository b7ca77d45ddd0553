"""A recipe is read whole or refused with the line that said it and the mend."""

import json
from pathlib import Path

import pytest

from megalith.errors import InputError, RecipeError
from megalith.recipe import load_recipe, shipped_recipes
from megalith.recipe.loading import dump, flatten

SMALL = """\
name: small
about: A test.
tokenize: {vocab_size: 300}
model:
  vocab_size: 300
  num_layers: 2
  hidden_size: 48
  num_heads: 12
train:
  tokens: 1e6
"""


def write(directory: Path, text: str) -> Path:
    path = directory / "small.yaml"
    path.write_text(text)
    return path


def test_a_recipe_may_be_named_by_file_by_bare_name_or_under_recipes(tmp_path: Path) -> None:
    named = load_recipe("quickstart")[0]
    assert named == load_recipe("recipes/quickstart.yaml")[0] == load_recipe(shipped_recipes()["quickstart"])[0]
    assert load_recipe(write(tmp_path, SMALL))[0].train.tokens == 1_000_000


def test_overrides_win_and_every_origin_is_known(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    recipe, origins = load_recipe(path, ["train.learning_rate=3e-4", "seed=7", "curate.languages=[en, de]"])
    assert (recipe.train.learning_rate, recipe.seed, recipe.curate.languages) == (3e-4, 7, ("en", "de"))
    assert origins["train.learning_rate"] == "override 'train.learning_rate=3e-4'"
    assert origins["train.tokens"] == f"{path}:10"
    assert "train.beta2" not in origins
    assert flatten(recipe)["curate.minhash.bands"] == 20


@pytest.mark.parametrize(
    ("old", "new", "where", "said"),
    [
        ("tokens:", "tokns:", ":10", "the section train has no key 'tokns'. Did you mean tokens?"),
        ("train:", "trian:", ":9", "Did you mean train?"),
        ("hidden_size: 48", "hidden_size: -48", ":7", "model.hidden_size is -48: set a number greater than 0."),
        ("num_heads: 12", "num_heads: 7", ":4", "hidden_size 48 cannot be split over num_heads 7; try num_heads"),
        ("  num_heads: 12\n", "", ":4", "num_layers and hidden_size given without num_heads"),
        (
            "vocab_size: 300\n  num",
            "vocab_size: 301\n  num",
            "",
            "tokenize.vocab_size is 300 and model.vocab_size is 301",
        ),
        ("  tokens: 1e6", "  learning_rate: 1", "", "neither train.tokens nor budget.flops"),
        ("name: small", "name: a/b", ":1", "name is 'a/b'"),
        ("tokens: 1e6", "tokens: 1.5", ":10", "train.tokens is 1.5"),
        ("name: small", "name: small\nname: again", ":2", "name is given twice"),
        ("about: A test.", "about: [", "", "this is not YAML"),
        (SMALL, "just text", "", "a recipe is a mapping"),
        ("name: small\n", "", "", "name is missing"),
    ],
)
def test_what_cannot_be_is_refused_with_the_line_and_the_mend(
    tmp_path: Path, old: str, new: str, where: str, said: str
) -> None:
    path = write(tmp_path, SMALL.replace(old, new))
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert f"{path}{where}" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("parallel.tensor=8", "12 heads cannot be split over parallel.tensor=8; try 1, 2, 3, 4, 6 or 12"),
        (
            "parallel.pipeline=5",
            "2 layers cannot fill 5 pipeline stages, even if the first and the last have none; lower",
        ),
        ("train.micro_batch_size=7", "train: global_batch_size 512 is not a multiple of micro_batch_size 7"),
        ("train.minimum_learning_rate=1", "minimum_learning_rate 1.0 is above learning_rate"),
        ("train.batch_ramp={start: 31, increment: 32, tokens: 100}", "never reaches global_batch_size 512"),
        ("seed.deep=1", "seed is a value, not a section"),
        ("train.tokens", "is neither a recipe nor an override"),
        ("train.precision=int8", "train.precision is 'int8'"),
        ("train.learning_rate=.nan", "train.learning_rate is nan"),
        ("curate.minhash.row=1", "the section curate.minhash has no key 'row'. Did you mean rows?"),
    ],
)
def test_overrides_are_checked_with_the_whole(tmp_path: Path, override: str, said: str) -> None:
    path = write(tmp_path, SMALL + "seed: 3\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, [override])
    assert said in str(caught.value)


def test_a_recipe_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean quickstart"):
        load_recipe("quickstrat")
    with pytest.raises(InputError, match="directory"):
        load_recipe(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        load_recipe(binary)


def test_a_recipe_cannot_be_changed_after_it_was_checked() -> None:
    recipe, _ = load_recipe("quickstart")
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]


def test_sections_under_names_of_your_own_are_flattened_too() -> None:
    flat = flatten(load_recipe("curate-mt-nlg")[0])
    assert flat["curate.datasets.gutenberg.quality"] is False
    assert "curate.datasets" not in flat


def test_a_check_of_several_keys_points_to_the_override_that_it_names(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("gpt2-8.3b", ["train.tokens=10000000000", "parallel.tensor=5"])
    assert caught.value.where == "override 'parallel.tensor=5'"


def test_an_override_of_one_kind_of_budget_takes_the_place_of_the_other() -> None:
    recipe, origins = load_recipe("quickstart", ["budget.flops=1e13"])
    assert (recipe.budget.flops, recipe.budget.hours) == (1e13, None)
    assert origins["budget.hours"] == "none: override 'budget.flops=1e13' takes its place"
    with pytest.raises(RecipeError, match="flops is 1e\\+13 and hours is 2: a budget is one of them"):
        load_recipe("quickstart", ["budget.flops=1e13", "budget.hours=2"])


def test_keys_of_a_section_are_told_once(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    with pytest.raises(RecipeError) as refused:
        load_recipe(path, ["model.qqqq=1", "model.zzzz=2"])
    assert "no key 'qqqq'" in str(refused.value) and "no key 'zzzz'" in str(refused.value)
    assert str(refused.value).count("The keys of the section model are") == 1


def test_a_recipe_without_a_model_is_read_again_as_it_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path, "name: text\nabout: Text alone.\ncluster: {name: laptop}\n")
    recipe = load_recipe(path, model=False)[0]
    shown = dump(recipe)
    assert "model" not in shown and not any(key.startswith("model.") for key in flatten(recipe))
    again = load_recipe(write(tmp_path, json.dumps(shown)), model=False)[0]
    assert dump(again) == shown and again.has_model == recipe.has_model
