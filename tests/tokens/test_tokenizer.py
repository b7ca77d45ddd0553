"""The byte-level BPE: what goes in comes out, and training it twice gives one file."""

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from megalith.errors import InputError
from megalith.tokens import BERT_TOKENS, END_OF_TEXT, SpecialTokens, Tokenizer, load_tokenizer, train_tokenizer
from megalith.tokens.tokenizer import RUN_CHARACTERS, cut_runs, split_long, utf8_bytes
from tests.tokens.conftest import PROSE, VOCAB_SIZE

any_text = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)
spaced_text = st.lists(
    st.sampled_from(["word", "’s", "'ll", " ", "  ", "\n", "\t", "\x1c", "\u00a0", "12", "?!", "é", "石"])
).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=any_text | spaced_text)
def test_decoding_gives_back_any_text(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["", "\x00", "\u200b\u200d", "\ufeff", "\U0010ffff", "e\u0301", "👩‍👩‍👧‍👦", "\r\n\t ", "ĠĊ", END_OF_TEXT]
)
def test_decoding_gives_back_odd_unicode(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_lone_surrogate_is_read_as_the_replacement_character(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a\ufffdb"
    assert utf8_bytes("a\ud800b") == 5


def test_the_first_ids_are_end_of_text_and_the_256_bytes(tokenizer: Tokenizer) -> None:
    assert tokenizer.end_of_text == 0
    assert tokenizer.decode([0]) == END_OF_TEXT
    single_bytes = {tokenizer.encode(character)[0] for character in map(chr, range(128))}
    assert len(single_bytes) == 128
    assert single_bytes <= set(range(1, 257))


def test_a_text_that_spells_out_end_of_text_cannot_forge_it(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    for either in (tokenizer, load_tokenizer(tmp_path)):
        assert 0 not in either.encode(f"before{END_OF_TEXT}after")


def test_the_merges_are_those_of_byte_pair_encoding_done_by_hand() -> None:
    # An independent count-and-merge over whole words (ASCII, so that a character is a byte); ties go to the
    # pair of lower ids, as the library has it. Ids: <|endoftext|>, then the bytes in the order of their signs.
    text = "low lower lowest newer newest wider widest new low low " * 3
    words = Counter(tuple(word.replace(" ", "Ġ")) for word in re.findall(r" ?\w+", text.strip()))
    alphabet = sorted(
        {chr(code) for code in [*range(33, 127), *range(161, 173), *range(174, 256)]}
        | {chr(256 + n) for n in range(68)}
    )
    ids = {sign: number for number, sign in enumerate([END_OF_TEXT, *alphabet])}
    merges = []
    for _ in range(8):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]))
        merges.append(list(best))
        ids["".join(best)] = len(ids)
        merged: Counter[tuple[str, ...]] = Counter()
        for word, count in words.items():
            merged[_merge(word, best)] += count
        words = merged
    model = json.loads(train_tokenizer([text.strip()], 257 + 8)._model.to_str())["model"]
    assert model["merges"] == merges
    assert model["vocab"] == ids


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    parts: list[str] = []
    position = 0
    while position < len(word):
        joined = word[position : position + 2] == pair
        parts.append("".join(pair) if joined else word[position])
        position += 2 if joined else 1
    return tuple(parts)


def test_training_in_another_process_gives_the_same_file_to_the_byte(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "here.json")
    program = (
        "import json, pathlib, sys\n"
        "from megalith.tokens.tokenizer import all_cores, train_tokenizer\n"
        "with all_cores():\n"
        "    train_tokenizer(json.loads(sys.argv[1]), int(sys.argv[2])).save(pathlib.Path(sys.argv[3]))\n"
    )
    there = tmp_path / "there.json"
    subprocess.run([sys.executable, "-c", program, json.dumps(PROSE * 3), str(VOCAB_SIZE), str(there)], check=True)
    assert there.read_bytes() == (tmp_path / "here.json").read_bytes()


def test_a_corpus_too_small_gives_fewer_entries() -> None:
    small = train_tokenizer(["ab ab"], VOCAB_SIZE)
    assert small.vocab_size == 258  # 256 bytes, <|endoftext|>, and "ab"; the pair with the space occurs once
    assert small.decode(small.encode("anything at all")) == "anything at all"


@settings(max_examples=200, deadline=None)
@given(text=spaced_text | any_text, characters=st.integers(1, 8))
def test_pieces_of_a_text_are_encoded_as_the_whole_is(tokenizer: Tokenizer, text: str, characters: int) -> None:
    pieces = list(split_long(text, characters))
    assert "".join(pieces) == text
    whole = tokenizer._model.encode(text).ids
    assert [number for piece in pieces for number in tokenizer._model.encode(piece).ids] == whole


def test_a_long_text_is_cut_and_one_without_spaces_is_not() -> None:
    assert [len(piece) for piece in split_long("abc " * 10, 8)] == [11, 8, 8, 8, 5]
    assert len(list(split_long("a" * 100, 8))) == 1


def test_a_batch_is_encoded_as_its_texts_are_one_by_one(tokenizer: Tokenizer) -> None:
    texts = ["", PROSE[0] * 2000, *PROSE]
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_a_fork_after_work_on_all_cores_prints_no_warning_and_does_not_hang() -> None:
    program = (
        "import os, signal\n"
        "from megalith.tokens.tokenizer import all_cores, train_tokenizer\n"
        "with all_cores():\n"
        "    tokenizer = train_tokenizer(['one two three'] * 100, 300)\n"
        "    tokenizer.encode_batch(['one two'] * 100)\n"
        "if os.fork() == 0:\n"
        "    signal.alarm(20)  # a child that hangs ends so\n"
        "    tokenizer.encode_batch(['one two'] * 100)\n"
        "    os._exit(7)\n"
        "assert os.waitstatus_to_exitcode(os.wait()[1]) == 7\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TOKENIZERS_PARALLELISM"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_a_damaged_and_a_foreign_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tokenizer here"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model":')
    with pytest.raises(InputError, match=r"not a tokenizer\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}')
    with pytest.raises(InputError, match="id 0 of this tokenizer is not"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_berts_tokens_come_after_end_of_text_within_the_vocabulary_and_are_found_again(tmp_path: Path) -> None:
    trained = train_tokenizer(PROSE * 3, 300, BERT_TOKENS)
    trained.save(tmp_path / "tokenizer.json")
    for either in (trained, load_tokenizer(tmp_path)):
        assert either.vocab_size == 300
        assert either.special == SpecialTokens(end_of_text=0, pad=1, cls=2, sep=3, mask=4)
        assert either.special.ids == (0, 1, 2, 3, 4)
        for text in ("[MASK]", "a[SEP]b [CLS]", *PROSE):
            ids = either.encode(text)
            assert either.decode(ids) == text
            assert min(ids) > 4  # a text that spells out [MASK] is plain text


def test_other_libraries_find_a_berts_tokens_in_the_file(tmp_path: Path) -> None:
    train_tokenizer(PROSE, 300, BERT_TOKENS).save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert [theirs.token_to_id(token) for token in (END_OF_TEXT, *BERT_TOKENS)] == [0, 1, 2, 3, 4]
    assert theirs.encode("a[MASK]").ids[-1] == 4
    assert theirs.decode([2, *theirs.encode("ropes").ids, 3]) == "ropes"


def test_a_gpts_tokenizer_has_no_token_of_a_bert(tokenizer: Tokenizer) -> None:
    assert tokenizer.special is None


def test_a_run_that_no_language_has_is_cut_for_encoding_and_training() -> None:
    """The trainer takes time that grows with the square of a word, the encoder a hundred bytes for each character."""
    long = "a" * (2 * RUN_CHARACTERS + 5)
    assert [len(piece) for piece in cut_runs(f"b {long}")] == [2 + RUN_CHARACTERS, RUN_CHARACTERS, 5]
    assert "".join(split_long(f"x{' ' * 3_000_000}{long}")) == f"x{' ' * 3_000_000}{long}"
    text = "words of a language " * 60_000
    assert list(cut_runs(text)) == [text]
    start = time.process_time()
    for sign in ("a", " ", "1", "-", "ab", "石", "a1"):
        train_tokenizer([sign * (1_000_000 // len(sign))], 300)
    assert time.process_time() - start < 20  # of processor time: one of them took half an hour
