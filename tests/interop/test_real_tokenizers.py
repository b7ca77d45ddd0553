"""Tokenizers in sentencepiece's manner and WordPiece, imported with their model: ids and prefix as transformers has."""

import json
from pathlib import Path

import pytest

from megalith.interop.importing import import_model
from megalith.tokens import Tokenizer, load_tokenizer
from tests.interop import oracle
from tests.tokens.test_any_tokenizer import llama2, llama3, wordpiece

transformers = pytest.importorskip("transformers", reason="transformers is what imports are compared with")

TEXTS = ("Hello, world! 12", " two  spaces", "naïve café 石", "a\nb\n\nc", "</s>[SEP]<|end|>")


def imported(case: oracle.Case, tokenizer: object, said: dict[str, object], path: Path) -> tuple[Tokenizer, object]:
    oracle.make(case, path / "theirs")
    tokenizer.save(str(path / "theirs" / "tokenizer.json"))
    (path / "theirs" / "tokenizer_config.json").write_text(json.dumps(said))
    config = path / "theirs" / "config.json"
    without = {name: value for name, value in json.loads(config.read_text()).items() if not name.endswith("token_id")}
    config.write_text(json.dumps(without))
    (path / "theirs" / "generation_config.json").unlink(missing_ok=True)
    made = import_model(path / "theirs", path / "ours")
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(path / "theirs")
    return load_tokenizer(made.path / "model"), theirs


def test_a_prefix_comes_from_the_tokenizer_itself(tmp_path: Path) -> None:
    case = oracle.Case("wide", "LlamaConfig", {**oracle.SMALL, "vocab_size": 500})
    ours, theirs = imported(case, llama3(), {"eos_token": "<|end|>", "bos_token": "<|begin|>"}, tmp_path)
    for text in TEXTS[:4]:
        assert ours.with_prefix(ours.encode(text)) == theirs(text, truncation=False)["input_ids"]
    assert ours.encode_with_specials(TEXTS[4]) == theirs(TEXTS[4], add_special_tokens=False)["input_ids"]
    assert ours.end_of_text not in ours.encode(TEXTS[4])


def test_sentencepieces_manner(tmp_path: Path) -> None:
    case = oracle.Case("wide", "LlamaConfig", {**oracle.SMALL, "vocab_size": 700})
    said = {"eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>", "add_bos_token": True}
    ours, theirs = imported(case, llama2(), said, tmp_path)
    assert (ours.prefix, ours.end_of_text, ours.conventions.unknown) == (1, 2, 0)
    for text in TEXTS[:4]:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(ours.encode(text)) == theirs.decode(ours.encode(text))


def test_wordpiece(tmp_path: Path) -> None:
    case = oracle.Case("wide", "BertConfig", {**oracle.SMALL, "vocab_size": 500})
    ours, theirs = imported(case, wordpiece(), {"sep_token": "[SEP]", "cls_token": "[CLS]"}, tmp_path)
    assert ours.special is not None
    assert ours.end_of_text == ours.special.sep
    for text in TEXTS[:4]:
        assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
