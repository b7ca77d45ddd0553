import random
import re
import time

import numpy as np
import pyarrow as pa
import pytest

from megalith.curation.steps.decontaminate import (
    characters,
    cut,
    find_matches,
    match_spans,
    task_ngrams,
    union,
    without,
)
from megalith.recipe import DecontaminateConfig

CONFIG = DecontaminateConfig()
VOCABULARY = [f"w{number}" for number in range(2000)]


def _words(draws: random.Random, count: int) -> str:
    return " ".join(draws.choice(VOCABULARY) for _ in range(count))


def _sentences(draws: random.Random, count: int) -> str:
    return " ".join(f"{_words(draws, 12).capitalize()}." for _ in range(count))


def _spans(text: str, wanted: dict[int, object]) -> list[str]:
    """The matched pieces of text, as written."""
    found = match_spans(pa.array([text]), wanted)[0]
    return [text[start:end] for start, end in characters(text, found)]


def test_a_passage_is_found_as_one_span_in_its_true_place() -> None:
    draws = random.Random(1)
    passage = _words(draws, 40)
    wanted = task_ngrams([passage], CONFIG)
    text = f"İİİ {_words(draws, 30)}, {passage.upper().replace(' ', ' -- ')}! {_words(draws, 30)}"
    assert _spans(text, wanted) == [passage.upper().replace(" ", " -- ")]


def test_matches_are_those_of_comparing_every_ngram() -> None:
    draws = random.Random(2)
    tasks = [" ".join(draws.choices("ab", k=draws.randrange(6, 20))) for _ in range(30)]
    wanted = task_ngrams(tasks, CONFIG)
    grams = set()
    for task in tasks:
        of_task = task.split()
        if len(of_task) >= 13:
            grams |= {tuple(of_task[at : at + 13]) for at in range(len(of_task) - 12)}
        elif len(of_task) >= 8:
            grams.add(tuple(of_task))
    texts = [" ".join(draws.choices("ab", k=draws.randrange(3000))) for _ in range(20)]
    found = find_matches(pa.array(texts), wanted)
    counts = np.bincount(found.documents, minlength=len(texts))
    for text, count in zip(texts, counts.tolist(), strict=True):
        of_text = text.split()
        expected = sum(
            tuple(of_text[at : at + size]) in grams for size in range(8, 14) for at in range(len(of_text) - size + 1)
        )
        assert count == expected
    assert counts.sum() > 20


def test_short_task_texts_are_entered_whole_and_shorter_ones_not() -> None:
    draws = random.Random(3)
    eight, seven = _words(draws, 8), _words(draws, 7)
    wanted = task_ngrams([eight, seven], CONFIG)
    assert _spans(f"{_words(draws, 20)} {eight} {_words(draws, 20)}", wanted) == [eight]
    assert _spans(f"{_words(draws, 20)} {seven} {_words(draws, 20)}", wanted) == []


def test_an_ngram_is_not_found_across_two_documents() -> None:
    passage = _words(random.Random(4), 13)
    first, second = passage[:30], passage[30:]
    assert match_spans(pa.array([first, second]), task_ngrams([passage], CONFIG)) == [[], []]


def test_frequent_ngrams_can_be_taken_out() -> None:
    draws = random.Random(5)
    common, rare = _words(draws, 13), _words(draws, 13)
    wanted = union([task_ngrams([common], CONFIG), task_ngrams([rare], CONFIG)])
    used = without(wanted, np.sort(find_matches(pa.array([common]), wanted).hashes))
    assert _spans(f"{common} and {rare}", used) == [rare]


def test_a_cut_reaches_over_the_margin_to_the_next_sentence_end() -> None:
    draws = random.Random(6)
    before, after = _sentences(draws, 30), _sentences(draws, 30)
    match = _words(draws, 13)
    text = f"{before} {match} {after}"
    start = text.index(match)
    pieces = cut(text, [(start, start + len(match))], CONFIG)
    ends = [found.end() for found in re.finditer(r"\.", text)]
    last = max(end for end in ends if end <= start - 200)
    following = min(end for end in ends if end > start + len(match) + 200)
    assert pieces == [text[:last].strip(), text[following:].strip()]


def test_text_without_sentence_ends_is_cut_at_the_margin_between_words() -> None:
    draws = random.Random(7)
    before, match, after = _words(draws, 300), _words(draws, 13), _words(draws, 300)
    text = f"{before} {match} {after}"
    start = len(before) + 1
    left, right = cut(text, [(start, start + len(match))], CONFIG)
    assert text.startswith(left) and text.endswith(right)
    assert 200 <= start - len(left) <= 210 and 200 <= len(after) + 1 - len(right) + 0 <= 210
    assert before[len(left)] == " " and text[-len(right) - 1] == " "


def test_overlapping_cuts_leave_nothing_between_them() -> None:
    text = _sentences(random.Random(8), 60)
    apart = cut(text, [(600, 700), (2500, 2600)], CONFIG)
    near = cut(text, [(600, 700), (900, 1000)], CONFIG)
    assert len(apart) == 3
    assert len(near) == 2


@pytest.mark.parametrize("length", [150, 500])
def test_pieces_of_no_length_are_not_kept(length: int) -> None:
    assert cut("x" * length, [(length // 2, length // 2 + 10)], CONFIG) == []


def test_planted_leaks_are_found_with_exactly_their_spans_and_clean_documents_are_left_alone() -> None:
    draws = random.Random(10)
    tasks = [_words(draws, draws.choice([8, 10, 12, 13, 20, 60])) for _ in range(40)]
    wanted = task_ngrams(tasks, CONFIG)
    texts, planted = [], []
    for number in range(200):
        before, leak, after = (
            _sentences(draws, 20),
            draws.choice(tasks).title().replace(" ", ", "),
            _sentences(draws, 20),
        )
        clean = number % 2 == 0
        texts.append(f"{before} {after}" if clean else f"é {before} «{leak}» {after}")
        start = len(f"é {before} «".encode())
        planted.append([] if clean else [(start, start + len(leak.encode()))])
    assert match_spans(pa.array(texts), wanted) == planted
    for text, spans in zip(texts, planted, strict=True):
        pieces = cut(text, characters(text, spans), CONFIG)
        assert pieces == [text] if not spans else text[slice(*characters(text, spans)[0])] not in " ".join(pieces)


def test_spans_at_the_very_ends_do_no_harm() -> None:
    text = _sentences(random.Random(9), 40)
    assert len(cut(text, [(0, 50)], CONFIG)) == 1
    assert len(cut(text, [(len(text) - 50, len(text))], CONFIG)) == 1
    assert cut(text, [(0, len(text))], CONFIG) == []
    assert cut(text, [], CONFIG) == [text]


def test_a_document_of_matches_alone_is_cut_in_time_that_grows_with_its_length() -> None:
    """Places were counted from the start of the text for each match. The bound is of processor time."""
    passage = " ".join(VOCABULARY[: CONFIG.ngram_words])
    text = f"{passage} {'+' * 300} " * 4000
    start = time.process_time()
    spans = characters(text, match_spans(pa.array([text]), task_ngrams([passage], CONFIG))[0])
    assert len(spans) == 4000
    assert not cut(text, spans, CONFIG)
    assert time.process_time() - start < 5


def test_places_in_characters_are_those_of_the_letters() -> None:
    text = "añ石😀b"
    ends = [len(text[:end].encode()) for end in range(len(text) + 1)]
    assert characters(text, [(ends[1], ends[3]), (0, ends[5])]) == [(1, 3), (0, 5)]
