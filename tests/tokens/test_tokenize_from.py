"""With `train.from` the stage takes the model's tokenizer, and follows each document by its separator."""

from pathlib import Path

import pytest

from megalith.errors import InputError
from megalith.recipe import Recipe
from megalith.tokens import Conventions, Shards, load_tokenizer, tokenize
from tests.tokens.conftest import PROSE, WriteCorpus
from tests.tokens.test_any_tokenizer import llama3


def test_documents_are_the_models_tokens_and_end_with_its_separator(
    recipe: Recipe, write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    home = tmp_path / "imported" / "model"
    home.mkdir(parents=True)
    library = llama3()
    end = library.token_to_id("<|end|>")
    (home / "tokenizer.json").write_text(library.to_str())
    (home / "generation.json").write_text(Conventions(prefix=5, end_of_text=(7,), separator=end).model_dump_json())
    texts = [PROSE[0], f"{PROSE[1]}<|end|>", "  "]
    corpus = write_corpus({"train": [texts], "validation": [texts[:1]]})
    further = recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"weights_from": str(home.parent)})}
    )  # fmt: skip
    made = tokenize(further, tmp_path / "tokens", corpus)
    assert (made.path / "tokenizer.json").read_bytes() == (home / "tokenizer.json").read_bytes()
    oracle = llama3()
    oracle.no_truncation()
    oracle.no_padding()
    oracle.encode_special_tokens = True
    shards = Shards(made.path / "train")
    assert [shards.document(number).tolist() for number in range(3)] == [
        [*oracle.encode(text, add_special_tokens=False).ids, end] for text in texts
    ]
    assert load_tokenizer(made.path).end_of_text == end
    assert tokenize(further, tmp_path / "tokens", corpus).reused
    plain = tokenize(recipe, tmp_path / "plain", corpus)
    assert "tokenizer" not in plain.manifest.settings
    assert plain.manifest.key != made.manifest.key


def test_a_model_without_a_tokenizer_is_refused(recipe: Recipe, write_corpus: WriteCorpus, tmp_path: Path) -> None:
    corpus = write_corpus({"train": [[PROSE[0]]], "validation": [[PROSE[1]]]})
    further = recipe.model_copy(update={"train": recipe.train.model_copy(update={"weights_from": str(tmp_path)})})
    with pytest.raises(InputError, match=r"Set train\.from"):
        tokenize(further, tmp_path / "tokens", corpus)
