"""Shards that stand already: taken where they lie, checked to the last id, split as Megatron splits."""

import json
import shutil
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from megalith.artifacts import Artifact
from megalith.errors import InputError, RecipeError
from megalith.recipe import ModelConfig, Recipe, TokensConfig
from megalith.tokens import Shards, Slice, Tokenizer, load_tokenizer, open_split, take_shards, write_shards
from megalith.tokens.given_tokenizer import read_given_tokenizer, tokenizer_files
from tests.tokens.conftest import PROSE, VOCAB_SIZE


@pytest.fixture
def data(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """Two pairs of 20 documents each, as Megatron's tool names them, and their tokenizer."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(2):
        texts = [f"{PROSE[place % 5]} {number} {place}" for place in range(20)]
        documents = [[*tokenizer.encode(text), tokenizer.end_of_text] for text in texts]
        write_shards(folder / f"part-{number}_text_document", documents, VOCAB_SIZE)
    tokenizer.save(folder / "tokenizer.json")
    return folder


def recipe_of(data: Path, sources: Any, **tokens: Any) -> Recipe:
    return Recipe(
        name="small",
        about="For tests.",
        tokens=TokensConfig(**{"from": sources, "tokenizer": str(data), **tokens}),
        model=ModelConfig(vocab_size=VOCAB_SIZE, num_layers=1, hidden_size=8, num_heads=1),
        train={"tokens": 1000},  # type: ignore[arg-type]
    )


def documents_of(shards: Shards) -> list[list[int]]:
    return [shards.document(number).tolist() for number in range(shards.documents)]


def part(data: Path, number: int) -> Path:
    return data / f"part-{number}_text_document"


def test_shards_are_read_where_they_lie_and_their_last_documents_held_out(data: Path, tmp_path: Path) -> None:
    prefix = part(data, 0)
    made = take_shards(recipe_of(data, str(prefix), validation_share=0.1), tmp_path / "tokenize")
    whole = documents_of(Shards(prefix))
    assert documents_of(open_split(made.path, "train")) == whole[:18]
    assert documents_of(open_split(made.path, "validation")) == whole[18:]
    assert open_split(made.path, "train").stream.tolist() == list(chain(*whole[:18]))
    assert not [file for file in made.path.rglob("*") if file.suffix in (".bin", ".idx")]
    assert load_tokenizer(made.path).encode(PROSE[0]) == load_tokenizer(data).encode(PROSE[0])
    text = b"".join(load_tokenizer(data).token_bytes[number] for ids in whole[:18] for number in ids[:-1])  # type: ignore[index]
    assert made.facts["documents"] == {"train": 18, "validation": 2}
    assert made.facts["bytes"]["train"] == len(text)
    assert made.facts["tokens"]["train"] == sum(map(len, whole[:18]))


def test_a_pattern_reads_several_pairs_as_one_set(data: Path, tmp_path: Path) -> None:
    made = take_shards(recipe_of(data, str(data / "part-*_text_document"), validation_share=0.05), tmp_path / "t")
    first, second = (documents_of(Shards(part(data, number))) for number in range(2))
    assert documents_of(open_split(made.path, "train")) == first[:19] + second[:19]
    assert documents_of(open_split(made.path, "validation")) == first[19:] + second[19:]


def test_weights_as_megatron_writes_them_make_a_blend(data: Path, tmp_path: Path) -> None:
    recipe = recipe_of(data, f"0.3 {part(data, 0)} 0.7 {part(data, 1)}")
    assert {name: one.weight for name, one in recipe.mixture.datasets.items()} == {
        "part-0_text_document": 0.3,
        "part-1_text_document": 0.7,
    }
    made = take_shards(recipe, tmp_path / "tokenize")
    assert documents_of(open_split(made.path, "train-part-1_text_document")) == documents_of(Shards(part(data, 1)))[:19]
    assert made.facts["datasets"].keys() == recipe.mixture.datasets.keys()
    assert made.facts["documents"] == {"train": 38, "validation": 2}


def test_given_shards_are_held_out_whole(data: Path, tmp_path: Path) -> None:
    made = take_shards(recipe_of(data, str(part(data, 0)), validation=str(part(data, 1))), tmp_path / "tokenize")
    assert documents_of(open_split(made.path, "train")) == documents_of(Shards(part(data, 0)))
    assert documents_of(open_split(made.path, "validation")) == documents_of(Shards(part(data, 1)))
    with pytest.raises(InputError, match="trained on and held out"):
        take_shards(recipe_of(data, str(part(data, 0)), validation=str(part(data, 0))), tmp_path / "both")


@pytest.mark.parametrize("documents", [1, 2, 7, 99, 1000])
@pytest.mark.parametrize("share", [0.01, 0.03, 0.25])
def test_what_is_held_out_is_what_megatrons_split_takes(
    data: Path, tmp_path: Path, documents: int, share: float
) -> None:
    builder = pytest.importorskip("megatron.core.datasets.blended_megatron_dataset_config")
    write_shards(data / "many", [[1, 0]] * documents, VOCAB_SIZE)
    recipe = recipe_of(data, str(data / "many"), validation_share=share)
    if round((1 - share) * documents) in (documents, 0):  # Megatron would validate on nothing
        return
    made = take_shards(recipe, tmp_path / "tokenize")
    split = builder.convert_split_vector_to_split_matrix(
        builder.parse_and_normalize_split(f"{100 * (1 - share):g},{100 * share:g},0")
    )
    bounds = [round(bound * float(documents)) for bound in split[1]]
    assert made.facts["documents"] == {"train": bounds[0], "validation": bounds[1] - bounds[0]}


@pytest.mark.parametrize(("vocab_size", "owner"), [(VOCAB_SIZE, "the tokenizer has"), (50, "model.vocab_size is 50")])
def test_an_id_beyond_the_vocabulary_is_refused_with_its_file_and_place(
    data: Path, tmp_path: Path, vocab_size: int, owner: str
) -> None:
    write_shards(data / "bad", [[1, 2, 0]] * 10 + [[3, VOCAB_SIZE + 7, 0]] + [[1, 0]] * 5, 1000)
    recipe = recipe_of(data, str(data / "bad"), validation_share=0.2)
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"vocab_size": vocab_size})})
    with pytest.raises(InputError) as caught:
        take_shards(recipe, tmp_path / "tokenize")
    assert f"token 31 of this file (in document 10) is {VOCAB_SIZE + 7}, and {owner}" in caught.value.what
    assert caught.value.where == str(data / "bad.bin")
    assert not (tmp_path / "tokenize").exists()


def test_a_negative_id_is_refused(data: Path, tmp_path: Path) -> None:
    write_shards(data / "bad", [[1, 0], [1, -5, 0], [1, 0]], 100_000)
    with pytest.raises(InputError, match=r"token 3 of this file \(in document 1\) is -5"):
        take_shards(recipe_of(data, str(data / "bad")), tmp_path / "tokenize")


def test_shards_that_moved_are_the_same_artifact(data: Path, tmp_path: Path) -> None:
    before = take_shards(recipe_of(data, str(part(data, 0))), tmp_path / "tokenize")
    data.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError):
        open_split(before.path, "train")
    after = take_shards(recipe_of(tmp_path / "elsewhere", str(part(tmp_path / "elsewhere", 0))), tmp_path / "tokenize")
    assert after.reused
    assert after.digest == before.digest
    assert open_split(after.path, "train").documents == 19


def test_shards_that_changed_are_another_artifact(data: Path, tmp_path: Path) -> None:
    recipe = recipe_of(data, str(part(data, 0)))
    before = take_shards(recipe, tmp_path / "tokenize")
    ids = np.fromfile(f"{part(data, 0)}.bin", dtype="<u2")
    ids[3] ^= 1
    ids.tofile(f"{part(data, 0)}.bin")
    after = take_shards(recipe, tmp_path / "tokenize")
    assert not after.reused
    assert after.digest != before.digest


def test_documents_without_an_end_of_text_are_told(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_shards(data / "bare", [[5, 6], [7, 8, 9], [10, 11]], VOCAB_SIZE)
    take_shards(recipe_of(data, str(data / "bare")), tmp_path / "tokenize")
    assert "do not end with the tokenizer's end of text" in " ".join(capfd.readouterr().err.split())


GPT2 = [chr(byte) for byte in (*range(33, 127), *range(161, 173), *range(174, 256))] + [
    chr(256 + place) for place in range(68)
]


def test_gpt2s_two_files_are_a_tokenizer_whose_end_of_text_is_its_last_id(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gpt2"
    folder.mkdir()
    vocabulary = {spelling: number for number, spelling in enumerate([*GPT2, "th", "the", "<|endoftext|>"])}
    (folder / "gpt2-vocab.json").write_text(json.dumps(vocabulary))
    (folder / "gpt2-merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    end = vocabulary["<|endoftext|>"]
    write_shards(data / "gpt2_text_document", [[vocabulary["the"], vocabulary["th"], end]] * 20, len(vocabulary))
    for named in (str(folder), [str(folder / "gpt2-vocab.json"), str(folder / "gpt2-merges.txt")]):
        recipe = recipe_of(data, str(data / "gpt2_text_document"), tokenizer=named)
        made = take_shards(recipe, tmp_path / "tokenize")
    tokenizer = load_tokenizer(made.path)
    assert tokenizer.encode("the") == [vocabulary["the"]]
    assert tokenizer.end_of_text == end == 258
    assert tokenizer.decode(tokenizer.encode("naïve 石")) == "naïve 石"
    assert made.facts["bytes"]["train"] == 19 * 5
    recipe = recipe_of(data, "x", tokenizer=[str(folder / "gpt2-merges.txt"), str(folder / "gpt2-vocab.json")])
    with pytest.raises(InputError, match="vocabulary and merges"):
        read_given_tokenizer(tokenizer_files(recipe.tokens.tokenizer), None)


@pytest.mark.parametrize(
    ("sources", "complaint"),
    [
        ([{"prefix": "a", "weight": 1}, "b"], "some sources have a weight"),
        ("0.3 a b", "do not alternate"),
        ([{"prefix": "a", "weight": 0}], "greater than 0"),
    ],
)
def test_sources_that_say_no_share_are_refused(data: Path, sources: Sequence[Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        recipe_of(data, sources)


def test_missing_files_are_named(data: Path, tmp_path: Path) -> None:
    for recipe, where in (
        (recipe_of(data, str(data / "none")), "none.idx"),
        (recipe_of(data, str(data / "none-*")), "none-*"),
        (recipe_of(data, str(part(data, 0)), tokenizer="nowhere/t.json"), "t.json"),
    ):
        with pytest.raises(InputError) as caught:
            take_shards(recipe, tmp_path / "tokenize")
        assert str(caught.value.where).endswith(where)


def test_a_slice_of_a_pair_counts_documents_and_places_from_its_own(data: Path) -> None:
    whole = documents_of(Shards(part(data, 0)))
    shards = Shards(Slice(part(data, 0), 3, 7), part(data, 1), Slice(part(data, 0), 5, 5))
    both = whole[3:7] + documents_of(Shards(part(data, 1)))
    assert documents_of(shards) == both
    assert shards.stream[:].tolist() == list(chain(*both))
    ends = np.cumsum([len(one) for one in both]).tolist()
    assert [shards.find(place)[1] for place in (0, ends[0] - 1, ends[0], ends[4])] == [
        ends[0],
        ends[0],
        ends[1],
        ends[5],
    ]
    with pytest.raises(InputError, match="documents 3 to 21 are wanted"):
        Shards(Slice(part(data, 0), 3, 21))


def test_a_lost_place_says_how_to_find_it_again(data: Path, tmp_path: Path) -> None:
    made: Artifact = take_shards(recipe_of(data, str(part(data, 0))), tmp_path / "tokenize")
    for damaged in ("", "[1]", "{}", "[]", '["a", "b"]'):
        (made.path / "logs/places.json").write_text(damaged)
        with pytest.raises(InputError, match="megalith tokenize"):
            open_split(made.path, "train")
    shutil.rmtree(made.path / "logs")
    with pytest.raises(InputError, match="megalith tokenize"):
        open_split(made.path, "train")
    assert take_shards(recipe_of(data, str(part(data, 0))), made.path).reused
    assert open_split(made.path, "train").documents == 19


def test_a_recipe_says_once_what_is_read(data: Path) -> None:
    for changed in ({"curate": {"sources": ["a.jsonl"]}}, {"blend": {"datasets": {"a": {"weight": 1}}}}):
        values = recipe_of(data, "a").model_dump() | changed
        with pytest.raises(ValueError, match=r"tokens\.from"):
            Recipe.model_validate(values)
    with pytest.raises((ValueError, RecipeError), match="tokenizer is missing"):
        TokensConfig(**{"from": "a"})
