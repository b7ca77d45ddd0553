"""Tokenizers that were made elsewhere: byte-level with another splitting, in sentencepiece's manner, WordPiece."""

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from megalith.errors import InputError
from megalith.tokens import Conventions, Tokenizer, load_tokenizer
from tests.tokens.conftest import PROSE

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
TEXTS = ("Hello, world!\n\n Naïve café 2,048 – 石は重い。 😀", " leading", "", "trailing \n", "a" * 300)


def llama3() -> tokenizers.Tokenizer:
    """A byte-level BPE with Llama 3's splitting, special tokens at the end, and a prefix."""
    model = tokenizers.Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    model.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    model.train_from_iterator(
        [PROSE], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    model.add_special_tokens(["<|begin|>", "<|end|>"])
    model.add_tokens(["<tool>"])
    begin = model.token_to_id("<|begin|>")
    model.post_processor = processors.TemplateProcessing(single="<|begin|> $A", special_tokens=[("<|begin|>", begin)])
    model.enable_truncation(5)
    model.enable_padding(length=9)
    return model


def llama2() -> tokenizers.Tokenizer:
    """A BPE in sentencepiece's manner, with bytes for what it has no token for."""
    special = ["<unk>", "<s>", "</s>"]
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    model = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    model.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    model.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special + pieces, show_progress=False)
    model.train_from_iterator([PROSE], trainer)
    state = json.loads(model.to_str())
    state["added_tokens"] = [each for each in state["added_tokens"] if each["content"] in special]
    return tokenizers.Tokenizer.from_str(json.dumps(state))


def wordpiece() -> tokenizers.Tokenizer:
    """BERT's: lower case, accents gone, pieces marked with ##."""
    model = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    model.normalizer = normalizers.BertNormalizer(lowercase=True)
    model.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    model.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    model.train_from_iterator(
        [PROSE], trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    return model


def saved(model: tokenizers.Tokenizer, conventions: Conventions, directory: Path) -> Tokenizer:
    (directory / "tokenizer.json").write_text(model.to_str())
    (directory / "generation.json").write_text(conventions.model_dump_json())
    return load_tokenizer(directory)


@pytest.fixture
def byte_level(tmp_path: Path) -> Tokenizer:
    model = llama3()
    begin, end = model.token_to_id("<|begin|>"), model.token_to_id("<|end|>")
    return saved(model, Conventions(prefix=begin, end_of_text=(end,)), tmp_path)


@pytest.mark.parametrize("text", TEXTS)
def test_a_byte_level_bpe_with_another_splitting_encodes_as_its_library(byte_level: Tokenizer, text: str) -> None:
    oracle = llama3()
    oracle.no_truncation()
    oracle.no_padding()
    assert byte_level.encode(text) == oracle.encode(text, add_special_tokens=False).ids
    assert byte_level.decode(byte_level.encode(text)) == text


def test_a_long_text_is_not_cut_where_another_splitting_has_no_boundary(byte_level: Tokenizer) -> None:
    text = "word!\n" * 20_000  # "!\n" is one word to Llama 3, and GPT-2's pattern would cut between the two
    oracle = llama3()
    oracle.no_truncation()
    oracle.no_padding()
    assert byte_level.encode(text) == oracle.encode(text, add_special_tokens=False).ids


def test_special_tokens_are_text_in_a_corpus_and_tokens_in_a_chat_template(byte_level: Tokenizer) -> None:
    end = byte_level.end_of_text
    assert end not in byte_level.encode("a<|end|>b")
    ids = byte_level.encode_with_specials("a<|end|>b")
    assert ids == [*byte_level.encode("a"), end, *byte_level.encode("b")]
    assert byte_level.decode(ids) == "a<|end|>b"


def test_an_added_token_that_is_not_special_is_a_token_everywhere(byte_level: Tokenizer) -> None:
    tool = byte_level.vocab_size - 1
    assert tool in byte_level.encode("a<tool>b")


def test_the_prefix_and_the_end_are_those_of_the_file(byte_level: Tokenizer) -> None:
    begin = byte_level.end_of_text - 1
    assert (byte_level.prefix, byte_level.first, byte_level.ends) == (begin, begin, {begin + 1})
    assert byte_level.with_prefix([5]) == [begin, 5]


def test_without_a_prefix_only_an_empty_text_begins_with_a_token(tmp_path: Path) -> None:
    tokenizer = saved(llama3(), Conventions(prefix=None, end_of_text=(7, 8), separator=9, begin_of_text=6), tmp_path)
    assert tokenizer.with_prefix([5]) == [5]
    assert tokenizer.with_prefix([]) == [6]
    assert (tokenizer.end_of_text, tokenizer.ends) == (9, {7, 8})


@pytest.mark.parametrize("make", [llama3, llama2])
@pytest.mark.parametrize("text", TEXTS)
def test_the_bytes_of_the_tokens_are_the_text(make, text: str, tmp_path: Path) -> None:
    tokenizer = saved(make(), Conventions(prefix=None, end_of_text=(2,)), tmp_path)
    ids = tokenizer.encode(text)
    assert tokenizer.token_bytes is not None
    joined = b"".join(tokenizer.token_bytes[number] for number in ids).decode()
    assert joined == (text if make is llama3 or not text else f" {text}")


def test_in_sentencepieces_manner_a_continuation_keeps_its_space(tmp_path: Path) -> None:
    tokenizer = saved(llama2(), Conventions(prefix=1, end_of_text=(2,)), tmp_path)
    ids = tokenizer.encode("one two")
    assert tokenizer.decode(ids) == "one two"
    two = tokenizer.encode("two")
    assert tokenizer.decode(two) == "two"
    assert tokenizer.decode(two, after_text=True) == " two"


def test_a_wordpiece_has_a_berts_tokens_and_no_bytes(tmp_path: Path) -> None:
    model = wordpiece()
    sep = model.token_to_id("[SEP]")
    tokenizer = saved(model, Conventions(prefix=None, end_of_text=(sep,)), tmp_path)
    assert tokenizer.token_bytes is None
    assert tokenizer.special is not None
    assert tokenizer.special.ids == (0, 2, 3, 4)  # [SEP] ends documents too
    assert tokenizer.encode("The NURSE") == tokenizer.encode("the nurse")
    assert sep not in tokenizer.encode("a [SEP] b")


def test_a_tokenizer_of_unknown_conventions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(llama3().to_str())
    with pytest.raises(InputError, match="megalith import"):
        load_tokenizer(tmp_path)


def test_conventions_that_name_no_token_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names token 9000"):
        saved(llama3(), Conventions(prefix=9000, end_of_text=(2,)), tmp_path)


def test_damaged_conventions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(llama3().to_str())
    (tmp_path / "generation.json").write_text('{"prefix": null}')
    with pytest.raises(InputError, match="end_of_text"):
        load_tokenizer(tmp_path)
