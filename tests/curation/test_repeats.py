"""Lines, paragraphs and passages that stand more than once are cut, and nothing else is."""

import json
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.curation import curate
from megalith.curation.steps.repeats import repeats, units, without
from megalith.errors import InputError
from megalith.recipe import Recipe, RepeatsConfig
from tests.curation.six_languages import mixed

VOCABULARY = [f"{first}{second}{third}" for first in "bdfgklmnprst" for second in "aeiou" for third in "lmnrst"]


def _prose(draws: random.Random, words: int) -> str:
    return " ".join(draws.choice(VOCABULARY) for _ in range(words)).capitalize() + "."


def _document(draws: random.Random, paragraphs: int = 6, lines: int = 3) -> list[list[str]]:
    return [[_prose(draws, 14) for _ in range(lines)] for _ in range(paragraphs)]


def _text(paragraphs: list[list[str]]) -> str:
    return "\n\n".join("\n".join(paragraph) for paragraph in paragraphs)


def _curated(folder: Path, texts: list[str], **settings: object) -> tuple[dict[str, str], dict[str, object]]:
    """The texts that are kept, by URL, and the facts."""
    source = folder / "in.jsonl"
    lines = [json.dumps({"text": text, "url": f"http://a.example/{number:04d}"}) for number, text in enumerate(texts)]
    source.write_text("\n".join(lines))
    recipe = Recipe.model_validate(
        {
            "name": "repeats",
            "about": "repeats",
            "model": {"sequence_length": 64, "num_layers": 2, "hidden_size": 32, "num_heads": 2, "vocab_size": 600},
            "tokenize": {"vocab_size": 600},
            "train": {"tokens": 100000},
            "curate": {
                "languages": [],
                "heuristics": {"preset": "none"},
                "task_items": {"most": 0},
                "validation_share": 0.2,
                "repeats": settings,
            },
        }
    )
    made = curate(recipe, folder / "curate", [source])
    kept = {
        row["url"]: row["text"]
        for split in ("train", "validation")
        for file in (made.path / split).glob("*.parquet")
        for row in pq.read_table(file).to_pylist()
    }
    return kept, dict(made.facts)


def _order(texts: list[str]) -> list[str]:
    """The addresses of the texts as copies are preferred: the longest first."""
    return [f"http://a.example/{at:04d}" for at in sorted(range(len(texts)), key=lambda at: -len(texts[at].encode()))]


@pytest.mark.parametrize("kind", ["paragraphs", "lines"])
def test_planted_lines_and_paragraphs_are_cut_from_all_but_the_first(tmp_path: Path, kind: str) -> None:
    draws = random.Random(kind)
    documents = [_document(draws, draws.randrange(5, 9)) for _ in range(60)]
    planted = [[_prose(draws, 14) for _ in range(3 if kind == "paragraphs" else 1)] for _ in range(15)]
    for number, one in enumerate(planted):
        for place in draws.sample(range(60), 3):
            spelled = [line if number % 2 else line.upper().replace(" ", "  ") for line in one]
            if kind == "paragraphs":
                documents[place].insert(draws.randrange(len(documents[place])), spelled)
            else:
                draws.choice(documents[place]).insert(1, spelled[0])
    texts = [_text(document) for document in documents]
    kept, facts = _curated(tmp_path, texts, **{kind: True})
    assert facts["repeats"][kind] == 30  # fifteen that stand three times
    told = dict.fromkeys(range(15), 0)
    for place in range(len(texts)):
        left = kept[f"http://a.example/{place:04d}"]
        for number, one in enumerate(planted):
            told[number] += " ".join(one).lower() in " ".join(left.lower().split())
        own = [line for paragraph in documents[place] for line in paragraph]
        foreign = {line.lower() for one in planted for line in one}
        assert [line for line in own if " ".join(line.lower().split()) not in foreign] == [
            line for line in left.splitlines() if line and " ".join(line.lower().split()) not in foreign
        ]
        assert "\n\n\n" not in left
    assert set(told.values()) == {1}
    (line,) = (step for step in facts["steps"] if step["name"] == "repeats")
    assert line["bytes_in"] - line["bytes_out"] == sum(map(len, texts)) - sum(map(len, kept.values()))
    assert line["documents_in"] == line["documents_out"] == 60


def test_a_passage_quoted_in_another_document_is_cut_and_the_rest_of_both_is_kept(tmp_path: Path) -> None:
    draws = random.Random(3)
    source = _prose(draws, 900)
    words = source.split()
    quotes = [" ".join(words[at : at + 60]) for at in (100, 300, 500)]
    texts = [source]
    sides = []
    for quote in quotes:
        before, after = _prose(draws, 150), _prose(draws, 150)
        texts.append(f"{before} {quote} {after}")
        sides.append((before, after))
    short = f"{_prose(draws, 150)} {' '.join(words[700:749])} {_prose(draws, 150)}"  # one word short of fifty
    texts.append(short)
    kept, facts = _curated(tmp_path, texts, passage_words=50)
    assert kept["http://a.example/0000"] == source
    for number, (before, after) in enumerate(sides, start=1):
        assert kept[f"http://a.example/{number:04d}"] == f"{before} {after}"
    assert kept["http://a.example/0004"] == short
    assert facts["repeats"]["documents"] == 3


@pytest.mark.parametrize("language", ["zh", "th", "hi"])
def test_passages_are_found_in_every_script(language: str) -> None:
    quoted, others = mixed(language, 1), [mixed(language, number) for number in (2, 3)]
    texts = [quoted * 2 + others[0], others[1][:200] + "。" + quoted + "。" + others[1][200:]]
    config = RepeatsConfig(passage_words=50)
    found = units(pa.array(texts), np.arange(2), config)["passages"]
    repeated, starts = repeats(found, found["row"])
    spans = [
        (int(start), int(found["end"][at])) for at, start in zip(repeated, starts, strict=True) if found["row"][at] == 1
    ]
    first, last = min(start for start, _ in spans), max(end for _, end in spans)
    left = without(texts[1], [(first, last)])
    assert quoted[:20] not in left and quoted[-20:-3] not in left
    assert left.startswith(others[1][:190]) and left.endswith(others[1][210:].strip())


@pytest.mark.parametrize("round_of", [10, 4])  # as long as a passage, and shorter: then a passage overlaps its repeat
def test_a_text_that_goes_round_in_circles_keeps_its_first_passage(round_of: int) -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"][:round_of]
    text = " ".join(words * 20)
    found = units(pa.array([text]), np.arange(1), RepeatsConfig(passage_words=10))["passages"]
    repeated, starts = repeats(found, found["row"])
    assert starts.min() >= len(" ".join((words * 3)[:10]))
    assert found["end"][repeated].max() == len(text)


def test_a_document_of_repeats_alone_is_dropped_and_counted(tmp_path: Path) -> None:
    draws = random.Random(5)
    whole = _document(draws, 8)
    texts = [_text(whole), _text([whole[5], whole[2]]), _text(_document(draws)), "few words\n\nfew words"]
    kept, facts = _curated(tmp_path, texts, paragraphs=True)
    assert sorted(kept) == [f"http://a.example/000{number}" for number in (0, 2, 3)]
    assert kept["http://a.example/0003"] == texts[3]  # short paragraphs stay
    (line,) = (step for step in facts["steps"] if step["name"] == "repeats")
    assert line["dropped"] == {"nothing but repeats": 1} and line["documents_out"] == 3


def test_the_result_depends_on_no_order_and_no_division_into_files(tmp_path: Path) -> None:
    draws = random.Random(6)
    common = [_prose(draws, 14) for _ in range(10)]
    documents = [[*_document(draws, 3), [draws.choice(common)]] for _ in range(30)]
    texts = [_text(document) for document in documents]
    made = []
    for number, order in enumerate((texts, texts[::-1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        kept, _ = _curated(folder, order, lines=True)
        made.append(sorted(kept.values()))
    assert made[0] == made[1]
    assert sum(text.count(line) for text in made[0] for line in common) == len(
        set(common) & set("\n".join(texts).split("\n"))
    )


@pytest.mark.parametrize("words", [1, 9])
def test_short_passages_are_refused(words: int) -> None:
    with pytest.raises((ValueError, InputError), match="common language"):
        RepeatsConfig(passage_words=words)
