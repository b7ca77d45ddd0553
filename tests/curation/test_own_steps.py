"""Steps of the user's own: they keep, drop and tag, and an edited one is asked again."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from megalith.artifacts import Artifact
from megalith.curation import curate
from megalith.curation.steps.c4_lines import cut_lines
from megalith.errors import InputError
from megalith.recipe import Recipe
from megalith.report.card import write_card

SOURCE = """
import pyarrow as pa
import pyarrow.compute as pc


def even(batch):
    return pc.equal(pc.bit_wise_and(pc.cast(pc.utf8_slice_codeunits(batch["text"], 0, 2), pa.int64()), 1), 0)


def no_sevens(batch):
    return ["has a seven" if "7" in text else None for text in batch["text"].to_pylist()]


def tag(batch):
    length = pc.utf8_length(batch["text"])
    kind = ["long" if words > 40 else "short" for words in batch["words"].to_pylist()]
    return {"kind": kind, "length": length, "language": batch["language"]}


def broken(batch):
    return 1 / 0


def too_few(batch):
    return [True]


def odd(batch):
    return [1.5] * batch.num_rows
"""


def _curated(folder: Path, *steps: str, **settings: Any) -> tuple[list[str], Artifact]:
    source = folder / "in.jsonl"
    words = [
        "alpha",
        "bravo",
        "charlie",
        "delta",
        "echo",
        "foxtrot",
        "golf",
        "hotel",
        "india",
        "juliet",
        "kilo",
        "lima",
    ]
    texts = [
        f"{at} {' '.join(words[(at + 5 * step) % 12] + str(at) for step in range(20 + at))}" for at in range(10, 40)
    ]
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    curating = {
        "languages": [],
        "heuristics": {"preset": "none"},
        "task_items": {"most": 0},
        "own": [f"{folder / 'own.py'}:{step}" for step in steps],
        **settings,
    }
    recipe = Recipe.model_validate(
        {
            "name": "own",
            "about": "own",
            "model": {"sequence_length": 64, "num_layers": 2, "hidden_size": 32, "num_heads": 2, "vocab_size": 600},
            "tokenize": {"vocab_size": 600},
            "train": {"tokens": 100000},
            "curate": curating,
        }
    )
    made = curate(recipe, folder / "curate", [source])
    kept = [
        text
        for split in ("train", "validation")
        for file in (made.path / split).glob("*.parquet")
        for text in pq.read_table(file)["text"].to_pylist()
    ]
    return sorted(kept), made


def test_a_function_keeps_drops_and_tags(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SOURCE)
    kept, made = _curated(tmp_path, "even", "no_sevens", "tag")
    numbers = [number for number in range(10, 40, 2) if "7" not in str(number)]
    assert [int(text[:2]) for text in kept] == numbers
    (line,) = (step for step in made.facts["steps"] if step["name"] == "own")
    assert line["dropped"] == {"even": 15}
    tags = pq.read_table(made.path / "tags.parquet").to_pylist()
    assert len(tags) == len(kept) and [row["id"] for row in tags] == sorted(row["id"] for row in tags)
    assert sorted(json.loads(row["tags"])["length"] for row in tags) == sorted(map(len, kept))
    details = json.loads((made.path / "details.json").read_text())
    assert details["tags"]["kind"] == {
        "short": sum(number < 20 for number in numbers),
        "long": sum(number >= 20 for number in numbers),
    }
    assert sum(details["histograms"]["tags.length"]["counts"]) == len(kept)


def test_a_reason_is_told_in_the_functions_words(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SOURCE)
    kept, made = _curated(tmp_path, "no_sevens")
    (line,) = (step for step in made.facts["steps"] if step["name"] == "own")
    assert line["dropped"] == {"has a seven": 3}
    assert len(kept) == 27


def test_an_edited_function_is_asked_again_and_the_documents_are_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SOURCE)
    _, first = _curated(tmp_path, "no_sevens")
    _, same = _curated(tmp_path, "no_sevens")
    assert same.digest == first.digest
    documents = (tmp_path / "curate-documents" / "manifest.json").read_bytes()
    (tmp_path / "own.py").write_text(SOURCE.replace('"7" in text', '"9" in text[:2]').replace("a seven", "a nine"))
    kept, changed = _curated(tmp_path, "no_sevens")
    assert changed.digest != first.digest and len(kept) == 27
    assert not any("9" in text[:2] for text in kept)
    assert (tmp_path / "curate-documents" / "manifest.json").read_bytes() == documents


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("broken", "raised ZeroDivisionError in line 21"),
        ("too_few", "returned 1 values for 30 documents"),
        ("odd", "neither booleans nor strings"),
        ("missing", "has no function missing"),
        ("a-b", "names no function"),
    ],
)
def test_what_is_wrong_with_a_function_is_told(tmp_path: Path, step: str, said: str) -> None:
    (tmp_path / "own.py").write_text(SOURCE)
    with pytest.raises(InputError, match=said):
        _curated(tmp_path, step)
    assert not (tmp_path / "curate").exists()


def test_lines_that_c4_leaves_out_are_cut_and_counted(tmp_path: Path) -> None:
    text = (
        "This line ends as a sentence does.\nMenu\nHome About Contact\nToo short.\n\n"
        "Please enable JavaScript to read this page.\nThis site uses cookies to be better.\n\n"
        "He said that it was so.\n文です。\n見出し\n这是一个完整的句子。"
    )
    counts: Counter[str] = Counter()
    assert cut_lines(text, counts) == (
        "This line ends as a sentence does.\n\nHe said that it was so.\n这是一个完整的句子。"
    )
    assert counts == {"no sentence end": 3, "few words": 2, "javascript": 1, "policy": 1}
    (tmp_path / "own.py").write_text(SOURCE)
    with pytest.raises(InputError, match="no line of sentences"):
        _curated(tmp_path, clean={"c4_lines": True})


def test_the_card_shows_tags_repeats_and_lines_that_were_cut(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SOURCE)
    _, made = _curated(tmp_path, "tag", repeats={"lines": True})
    text = (write_card(made.path, output=tmp_path / "card") / "card.html").read_text()
    assert "Tag kind" in text and ">short</th>" in text
