"""Any text in the place of a recipe or an override ends in a recipe, or in one sentence and exit code 2."""

import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from megalith.cli import app
from megalith.recipe import load_recipe
from megalith.recipe.yaml_values import read_yaml

RUN = CliRunner()
HEAD = "name: small\nabout: A test.\n"
BODY = "tokenize: {vocab_size: 300}\nmodel: {vocab_size: 300, num_layers: 2, hidden_size: 48, num_heads: 12}\n"
REST = BODY + "train: {tokens: 1e6}\n"
BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{" + ", ".join(f"k{k}: *a{n - 1}" for k in range(9)) + "}\n" for n in range(1, 10)
)


def refused(*words: str | Path) -> str:
    start = time.process_time()
    result = RUN.invoke(app, ["recipe", "show", *map(str, words)])
    assert result.exit_code == 2, (result.output, result.exception)
    assert time.process_time() - start < 10
    assert result.stdout == ""
    assert len(result.stderr) < 1000
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + "train: " + "[" * 5000 + "]" * 5000, "nested more than 32 deep"),
        (HEAD + "train: " + "{a: " * 5000 + "}" * 5000, "nested more than 32 deep"),
        (HEAD + "- " * 5000, "not YAML"),
        ("- " * 5000 + "x", "nested more than 32 deep"),
        ("[" * 1_000_000, "nested more than 32 deep"),
        ("model: &a {x: *a}\n" + HEAD, "*a stands inside the value that it repeats"),
        ("&a [*a]", "*a stands inside"),
        ("model: *b\n", "*b has no anchor"),
        (BOMB + HEAD, "more than 100,000 values"),
        (HEAD + f"train: [{'1,' * 200_000}]", "more than 100,000 values"),
        (HEAD + "seed: " + "9" * 5000, "a number of 5,000 digits"),
        (HEAD + "seed: 0x" + "f" * 5000, "digits"),
        (HEAD + "seed: 1" + "0" * 5000 + ".5", "digits"),
        (HEAD + REST + "seed: " + "9" * 100, "seed is 99999"),
        (HEAD + REST + "seed: 9223372036854775808", "set a number below 9,223,372,036,854,775,808"),
        (HEAD + REST + "seed: 2001-13-45", "seed is '2001-13-45': set a whole number"),
        (HEAD + REST + "seed: 2001-01-01T00:00:00Z", "set a whole number"),
        (HEAD + REST + "seed: 12:30:59", "seed is '12:30:59': set a whole number"),
        (HEAD + REST + "seed: .nan", "seed is nan"),
        (HEAD + REST + "seed: 1e999", "seed is inf"),
        (HEAD + REST + "train.x: .inf", "no key 'train.x'"),
        (HEAD + 'seed: "\\ud800"', "half a character"),
        (HEAD + 'seed: "\\0"', "the control character U+0000 stands in a value"),
        (HEAD + 'seed: "\\e[31m"', "the control character U+001B"),
        (HEAD + "seed: \x07", "the control character U+0007 stands in it"),
        (HEAD + '"\\u202e\\x1b": 3', "the control character U+001B"),
        (HEAD + "seed: !!python/object/apply:os.system [ls]", "the tag !!python/object/apply:os.system is not taken"),
        (HEAD + "seed: !!binary aGk=", "the tag !!binary is not taken"),
        (HEAD + "seed: !!set {a}", "the tag !!set is not taken"),
        (HEAD + "seed: !mine 3", "the tag !mine is not taken"),
        (HEAD + "seed: !!int x", "the tag !!int is not taken"),
        (HEAD + "train: {tokens: 1, tokens: 2}", "tokens is given twice, first in line 3"),
        (HEAD + "[a, b]: 3", "a key is a list"),
        (HEAD + "? {a: b}\n: 3", "a key is a list"),
        (HEAD + "1: 3", "a recipe has no key '1'"),
        (HEAD + "null: 3", "a recipe has no key 'null'"),
        (HEAD + "<<: 3\n" + REST, "a merge key (<<) has a mapping"),
        (HEAD + "<<: [3]\n" + REST, "a merge key (<<) has a mapping"),
        ("", "a recipe is a mapping"),
        ("# nothing\n", "a recipe is a mapping"),
        ("- a\n- b\n", "a recipe is a mapping"),
        ("3", "a recipe is a mapping"),
        (HEAD + "---\nname: other\n", "a second document begins"),
        (HEAD + "x: [", "not YAML"),
        (HEAD + "\tx: 3", "not YAML"),
        (HEAD + 'x: "\\U99999999"', "not YAML"),
        (HEAD + "x: |99\n a", "not YAML"),
        ("%YAML 3.0\n---\n" + HEAD, "not YAML"),
        (HEAD + "model: 3\n", "model is 3: it is a section: set its keys, one by one"),
        (HEAD + "model:\n", "model is null: it is a section"),
        (HEAD + "model: [1]\n", "model is [1]: it is a section"),
        (HEAD + REST + "curate: {languages: en}\n", "set a list, such as [a, b]"),
        (HEAD + REST + "curate: {datasets: [a]}\n", "set a section of keys and values"),
        (HEAD + REST + "about: [a]\n", "about is given twice"),
        ("name: a b\nabout: x\n" + REST, "name is 'a b': set letters, digits"),
        ("name: ../x\nabout: x\n" + REST, "set letters, digits"),
        ("name: 3\nabout: x\n" + REST, "name is 3: set text, in quotes"),
        (f"name: {'n' * 300}\nabout: x\n" + REST, "name is 'nnnn"),
        (HEAD + BODY.replace("num_heads: 12", "num_heads: 7"), "cannot be split over num_heads 7"),
        (HEAD + "x" * 2_000_000 + ": 3", "larger than 1,048,576 bytes"),
    ],
)
def test_what_is_no_recipe_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(text)
    told = refused(path)
    assert said in told
    assert told.startswith(f"megalith: {path}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ((HEAD + REST).encode("utf-16"), "not UTF-8"),
        ("name: caf\xe9\n".encode("latin-1"), "not UTF-8: byte 0xe9 in line 1"),
        (b"\x00" * 100, "U+0000"),
        (b"\x1f\x8b\x08", "not UTF-8"),
    ],
)
def test_bytes_that_are_no_text_are_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "small.yaml"
    path.write_bytes(content)
    assert said in refused(path)


def test_what_is_no_file_is_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(2**32)
    assert "a named pipe" in refused(tmp_path / "pipe")
    assert "a directory" in refused(tmp_path)
    assert "larger than" in refused(tmp_path / "huge.yaml")
    assert "a device" in refused("/dev/zero")
    assert "neither a file nor a shipped recipe" in refused("n" * 5000)
    assert "neither a file nor a shipped recipe" in refused("a\0b")
    assert "a directory" in refused("")
    assert "a recipe comes before it" in refused("train.tokens=3")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed=" + "9" * 5000, "a number of 5,000 digits"),
        ("seed=2001-13-45", "seed is '2001-13-45': set a whole number"),
        ("seed=" + "[" * 5000, "nested more than 32 deep"),
        ("seed=&a [*a]", "*a stands inside"),
        ('curate.language_model="\\ud800"', "half a character"),
        ("curate.language_model=\udcff", "a byte that is not UTF-8"),
        ("curate.language_model=a\x1b[31m", "U+001B"),
        ("=x", "a part of its key is empty"),
        ("train.=1", "a part of its key is empty"),
        (".train=1", "a part of its key is empty"),
        ("train..tokens=1", "a part of its key is empty"),
        (".".join("abcd" * 2500) + "=1", "its key has 10,000 parts"),
        ("seed.deep.er=1", "seed is a value, not a section. Set seed itself."),
        ("train=3", "it is a section: set its keys, one by one"),
        ("train=null", "it is a section"),
        ("train.tokens=[1]", "set a whole number"),
        ("train.tokens=1.5", "set a whole number"),
        ("train.tokens=1e30", "set a whole number"),
        ("train.compile=perhaps", "set true or false"),
        ("train.learning_rate=fast", "set a number"),
        ("train.learning_rate=-inf", "set a finite number"),
        ("train.learning_rate=-.inf", "learning_rate is -inf"),
        ("train.precision=bf61", "set auto, fp32, bf16 or fp16; did you mean bf16?"),
        ("parallel.zero=7", "set 0, 1, 2 or 3"),
        ("cluster.nodes=1000000000000", "set 1,000,000 or less"),
        ("model.num_layers=1000000000", "set 4,000 or less"),
        ("name=a/b", "set letters, digits"),
        ("curate.datasets={a: {paths: []}}", "set at least 1 of them"),
        ("train.tokens=1 2", "set a whole number"),
        ("train.tokens", "is neither a recipe nor an override"),
        ("x" * 3000, "is neither a recipe nor an override"),
        ("{" * 3000 + "=1", "has no key"),
    ],
)
def test_what_is_no_override_is_one_sentence(tmp_path: Path, override: str, said: str) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(HEAD + REST + "seed: 3\n")
    assert said in refused(path, override)


@pytest.mark.parametrize("hidden_size", [2**31 - 1, 99_999_999_999_999, 10**9])
def test_a_width_of_any_size_is_checked_at_once(hidden_size: int) -> None:
    shape = [f"model.{key}" for key in ("num_layers=2", "num_heads=7", f"hidden_size={hidden_size}")]
    assert "hidden_size" in refused("quickstart", *shape, "train.tokens=1e6")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("train.lr", "Did you mean train.learning_rate?"),
        ("train.batch_size", "Did you mean train.global_batch_size?"),
        ("train.LR", "Did you mean train.learning_rate?"),
        ("optimizer.lr", "Did you mean train.learning_rate?"),
        ("model.n_layer", "Did you mean model.num_layers?"),
        ("model.d_model", "Did you mean model.hidden_size?"),
        ("model.num_experts", "Mixtures of experts are planned"),
        ("parallel.cp", "Did you mean parallel.context?"),
        ("parallel.tp", "Did you mean parallel.tensor?"),
        ("tensor_model_parallel_size", "Did you mean parallel.tensor?"),
        ("train.tensor", "Did you mean parallel.tensor?"),
        ("train.deterministic_mode", "Did you mean train.deterministic?"),
        ("train.max_steps", "Set train.tokens."),
        ("max_seq_len", "Did you mean model.sequence_length?"),
        ("model.learning_rat", "Did you mean train.learning_rate?"),
        ("trian.tokens", "Did you mean train?"),
        ("train.zzz", "The keys of the section train are tokens,"),
        ("zzz", "The keys of a recipe are name,"),
        ("curate.datasets.mine.pathz", "Did you mean paths?"),
    ],
)
def test_an_unknown_key_gets_a_hint(key: str, said: str) -> None:
    assert said in refused("quickstart", f"{key}=1")


def test_every_synonym_leads_to_a_key_that_exists() -> None:
    from megalith.recipe.hints import NOT_BUILT, SYNONYMS, _leaves
    from megalith.recipe.whole import Recipe

    leaves = set(_leaves(Recipe, ""))
    assert set(SYNONYMS.values()) <= leaves
    assert not set(SYNONYMS) & set(NOT_BUILT)


def test_anchors_merge_keys_and_the_words_of_yaml_1_2_are_read(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    shared = "train: &shared {tokens: 1e6, seed: 1}\n"
    assert read_yaml(shared + "other: {<<: *shared, seed: 2}").value["other"] == {"tokens": 1e6, "seed": 2}
    assert read_yaml("[no, on, 12:30, 2001-01-01, '7', !!str 7]").value == ["no", "on", "12:30", "2001-01-01", "7", "7"]
    assert read_yaml("[010, 0o10, 0x_ff, 20_000, 3e-4, .5]").value == [10, 8, 255, 20000, 3e-4, 0.5]
    assert read_yaml("[~, TRUE, null, false,]").value == [None, True, None, False]
    path.write_text("\ufeff" + HEAD + REST.replace("train: {", "train: {<<: {tokens: 5, learning_rate: 1e-3}, "))
    recipe, origins = load_recipe(path, ["curate.languages=[en, no]"])
    assert recipe.train.tokens == 1_000_000 and recipe.train.learning_rate == 1e-3
    assert recipe.curate.languages == ("en", "no")
    assert origins["train.learning_rate"] == f"{path}:5"


def test_a_directory_of_a_shipped_name_does_not_stand_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart" / "train").mkdir(parents=True)
    (tmp_path / "recipes" / "quickstart.yaml").mkdir(parents=True)
    assert load_recipe("quickstart")[0].name == "quickstart"
    assert load_recipe("recipes/quickstart.yaml")[0].name == "quickstart"


def test_a_step_of_a_billion_micro_batches_is_refused_before_it_is_drawn() -> None:
    result = RUN.invoke(app, ["plan", "timeline", "gpt3-175b", "train.global_batch_size=2000000000"])
    assert result.exit_code == 2 and "too long to draw" in " ".join(result.stderr.split())


def test_a_character_that_json_escapes_as_a_pair_is_read_as_one() -> None:
    assert read_yaml('{"name": "\\ud83e\\udea8"}').value == {"name": "\U0001faa8"}
