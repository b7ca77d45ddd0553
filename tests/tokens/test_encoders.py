"""Another library encodes only where it gives the very ids of the first."""

import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from megalith.tokens import Tokenizer, encoders
from megalith.tokens.encoders import choose_encoder, encoder
from tests.tokens.conftest import PROSE


def test_ids_are_those_of_each_text_followed_by_its_end(tokenizer: Tokenizer) -> None:
    texts = [*PROSE, "", "a<|endoftext|>b"]
    ids, lengths = encoder("tokenizers", tokenizer)(texts)
    assert ids.tolist() == [number for text in texts for number in [*tokenizer.encode(text), 0]]
    assert lengths.tolist() == [len(tokenizer.encode(text)) + 1 for text in texts]
    nothing, none = encoder("tokenizers", tokenizer)([])
    assert (len(nothing), len(none)) == (0, 0)


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer) -> Iterator[Any]:
    """Put a gigatoken of the test's in place, which encodes with a function of the test's."""

    def put(encode: Any) -> None:
        class Model:
            @staticmethod
            def from_json(text: str) -> "Model":
                return Model()

            def encode_batch(self, texts: Sequence[str], parallel: bool) -> list[list[int]]:
                return [encode(text) for text in texts]

        fake, arrays = ModuleType("gigatoken"), ModuleType("awkward")
        vars(fake).update(Tokenizer=Model)
        vars(arrays).update(
            flatten=lambda rows: np.concatenate([np.asarray(row, np.uint32) for row in rows]),
            num=lambda rows: [len(row) for row in rows],
        )
        monkeypatch.setitem(sys.modules, "gigatoken", fake)
        monkeypatch.setitem(sys.modules, "awkward", arrays)
        monkeypatch.setattr(encoders, "find_spec", lambda name: True)

    yield put


def test_one_that_gives_the_same_ids_is_taken(tokenizer: Tokenizer, install: Any) -> None:
    install(tokenizer.encode)
    assert choose_encoder(tokenizer, PROSE) == "gigatoken"


def test_one_that_errs_in_a_single_text_is_not(tokenizer: Tokenizer, install: Any) -> None:
    install(lambda text: tokenizer.encode(text.replace("levers", "lever")))
    assert choose_encoder(tokenizer, PROSE) == "tokenizers"
    assert choose_encoder(tokenizer, PROSE[3:4]) == "gigatoken"  # a sample that does not tell


def test_one_that_takes_a_texts_spelling_for_the_end_of_a_document_is_not(tokenizer: Tokenizer, install: Any) -> None:
    install(lambda text: [0] if "<|endoftext|>" in text else tokenizer.encode(text))
    assert choose_encoder(tokenizer, PROSE) == "tokenizers"


def test_one_that_breaks_is_not(tokenizer: Tokenizer, install: Any) -> None:
    def panic(text: str) -> list[int]:
        raise BaseException("as pyo3's PanicException")

    install(panic)
    assert choose_encoder(tokenizer, PROSE) == "tokenizers"


def test_gigatoken_itself_gives_the_same_ids(tokenizer: Tokenizer) -> None:
    pytest.importorskip("gigatoken")
    assert choose_encoder(tokenizer, PROSE) == "gigatoken"
