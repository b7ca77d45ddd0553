"""`tokenize.from`: a tokenizer that stands in place of one that is trained."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from megalith.artifacts import Artifact, Workspace, produce
from megalith.errors import InputError, RecipeError
from megalith.recipe import Recipe, load_recipe
from megalith.tokens import tokenize
from megalith.tokens.shards import Shards
from megalith.tokens.tokenizer import load_tokenizer

TEXTS = ["salt bridge bell", "bell lantern", "granary salt salt"]
WORDS = ("salt", "bridge", "bell", "lantern", "granary")


def _corpus(place: Path) -> Artifact:
    def build(workspace: Workspace) -> dict[str, int]:
        for split in ("train", "validation"):
            with workspace.file(f"{split}/part-00000.parquet") as path:
                pq.write_table(pa.table({"id": ["a", "b", "c"], "text": TEXTS}), path)
        return {}

    return produce(place, stage="curate", settings={}, inputs={}, seed=0, build=build)


def _tokenizer(folder: Path, end: str, first_id: int) -> Path:
    folder.mkdir()
    words = {word: first_id + number for number, word in enumerate(WORDS)} | {end: 3, "[UNK]": 0}
    model = tokenizers.Tokenizer(WordLevel(words, unk_token="[UNK]"))
    model.pre_tokenizer = Whitespace()
    model.add_special_tokens([end])
    model.save(str(folder / "tokenizer.json"))
    return folder


def _recipe(source: Path, vocab_size: int) -> Recipe:
    settings = [f"tokenize.from={source}", f"model.vocab_size={vocab_size}", "tokenize.vocab_size=300"]
    return load_recipe("quickstart", settings)[0]


@pytest.mark.parametrize("name", ["", "tokenizer.json"])
def test_its_ids_and_its_own_end_of_text_are_written_beyond_16_bits(tmp_path: Path, name: str) -> None:
    folder = _tokenizer(tmp_path / "theirs", "</s>", 70_000)
    made = tokenize(_recipe(folder / name, 70_005), tmp_path / "tokens", _corpus(tmp_path / "corpus"))
    ids = [70_000 + WORDS.index(word) for word in TEXTS[0].split()]
    assert Shards(made.path / "train").document(0).tolist() == [*ids, 3]
    assert (made.facts["vocab_size"], load_tokenizer(made.path).end_of_text) == (70_005, 3)


def test_the_end_of_text_that_stands_beside_it_is_believed(tmp_path: Path) -> None:
    folder = _tokenizer(tmp_path / "theirs", "~end~", 10)
    with pytest.raises(InputError, match="end of text is not known"):
        tokenize(_recipe(folder, 50), tmp_path / "tokens", _corpus(tmp_path / "corpus"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "~end~"}}))
    made = tokenize(_recipe(folder, 50), tmp_path / "tokens", _corpus(tmp_path / "corpus"))
    assert Shards(made.path / "train").document(1).tolist() == [12, 13, 3]


def test_a_model_too_small_for_its_ids_is_refused(tmp_path: Path) -> None:
    folder = _tokenizer(tmp_path / "theirs", "</s>", 70_000)
    with pytest.raises(RecipeError, match=r"model\.vocab_size=70005"):
        tokenize(_recipe(folder, 4096), tmp_path / "tokens", _corpus(tmp_path / "corpus"))


def test_another_tokenizer_makes_other_shards(tmp_path: Path) -> None:
    corpus = _corpus(tmp_path / "corpus")
    one = tokenize(_recipe(_tokenizer(tmp_path / "a", "</s>", 10), 50), tmp_path / "tokens", corpus)
    other = tokenize(_recipe(_tokenizer(tmp_path / "b", "</s>", 20), 50), tmp_path / "tokens", corpus)
    assert one.digest != other.digest and not other.reused
