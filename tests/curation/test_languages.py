"""Six languages come out of curation as English does: near-duplicates, clean documents, leaks."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.curation import curate
from megalith.curation.steps.decontaminate import characters, cut, match_spans, task_ngrams
from megalith.curation.steps.dedup import components, signatures
from megalith.curation.steps.heuristics import reasons, signal_table
from megalith.curation.steps.language import identify
from megalith.recipe import DecontaminateConfig, MinHashConfig, Recipe
from megalith.recipe.heuristics import HeuristicsConfig
from tests.curation.six_languages import LANGUAGES, document, in_a_row, mixed, scattered

UNSPACED = ("zh", "ja", "th")


def _joined(pairs: list[tuple[str, str]], config: MinHashConfig) -> tuple[float, int]:
    """The share of pairs that are near-duplicates of each other, and how many components there are."""
    texts = pa.array([text for pair in pairs for text in pair])
    hashes = config.bands * config.rows
    signed = signatures(texts, config.shingle_words, hashes, config.unspaced_characters, config.shingle_characters)
    roots = components(signed, config.bands, config.rows, config.minimum_jaccard).reshape(-1, 2)
    return float((roots[:, 0] == roots[:, 1]).mean()), len(set(roots.ravel().tolist()))


@pytest.mark.parametrize("language", LANGUAGES)
def test_copies_with_two_percent_of_their_characters_changed_are_found(language: str) -> None:
    texts = [mixed(language, seed) for seed in range(150)]
    whole = [(text, in_a_row(language, text, seed)) for seed, text in enumerate(texts)]
    apart = [(text, scattered(language, text, seed)) for seed, text in enumerate(texts)]
    found, groups = _joined(whole, MinHashConfig())
    assert found >= 0.99 and groups <= 152
    if language in UNSPACED:
        found, groups = _joined(apart, MinHashConfig())
        assert found >= 0.99 and groups <= 152
    found, groups = _joined(apart, MinHashConfig(preset="characters"))
    assert found >= 0.99 and groups <= 152


@pytest.mark.parametrize("language", LANGUAGES)
def test_different_documents_are_not_near_duplicates(language: str) -> None:
    different = [(mixed(language, 2 * seed), mixed(language, 2 * seed + 1)) for seed in range(60)]
    for preset in ("paper", "characters"):
        assert _joined(different, MinHashConfig(preset=preset)) == (0.0, 120)


@pytest.mark.parametrize("language", LANGUAGES)
def test_clean_documents_pass_the_default_rules(language: str) -> None:
    texts = [document(language, seed) for seed in range(60)]
    found = [identify(text).code for text in texts]
    assert found.count(language) == len(texts)
    signals = signal_table(pa.array(texts), found)
    assert sum(reason is None for reason in reasons(signals, HeuristicsConfig(), found).to_pylist()) >= 57
    as_english = reasons(signal_table(pa.array(texts)), HeuristicsConfig(by_language=False), found).to_pylist()
    assert as_english.count(None) == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_leak_is_cut_in_its_exact_place_with_less_than_400_characters_on_each_side(language: str) -> None:
    config = DecontaminateConfig()
    gap = "" if language in UNSPACED else " "
    for seed in range(20):
        leak = "".join(document(language, 1000 + seed, 3, "first").split("\n\n")).replace("\n", gap).strip()
        before, after = (document(language, place + seed, part="rest") for place in (2000, 3000))
        text = f"{before}{gap}{leak}{gap}{after}"
        spans = characters(text, match_spans(pa.array([text]), task_ngrams([leak], config))[0])
        letters = [at for at, letter in enumerate(leak) if letter.isalnum()]
        start = text.index(leak)
        assert len(spans) == 1
        assert spans[0][0] == start + letters[0]
        assert start + letters[-1] < spans[0][1] <= start + len(leak)
        pieces = cut(text, spans, DecontaminateConfig(minimum_piece_characters=1))
        assert len(pieces) == 2
        left, right = pieces
        assert text.startswith(left) and text.endswith(right)
        assert spans[0][0] - len(left) < 400 and len(text) - len(right) - spans[0][1] < 400


def test_a_corpus_of_six_languages_is_curated_by_the_rules_of_each(tmp_path: Path) -> None:
    kinds = [*LANGUAGES, "en"]
    english = (
        "The people of the village have walked to the old bridge and they said that it had to be mended with stone. "
    )
    lines = [{"text": document(language, seed, part="rest")} for language in LANGUAGES for seed in range(6)]
    lines += [{"text": "".join(f"{number} {number * seed}: {english}" for number in range(9))} for seed in range(7, 13)]
    leaked = document("ja", 99, 3, "first")
    lines[6]["text"] += f"\n\n{leaked}\n\n{document('ja', 98, part='rest')}"
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    (tmp_path / "task.jsonl").write_text(json.dumps({"text": leaked}))
    recipe = Recipe.model_validate(
        {
            "name": "six",
            "about": "six languages",
            "model": {
                "sequence_length": 64,
                "num_layers": 2,
                "hidden_size": 32,
                "num_heads": 2,
                "vocab_size": 600,
            },
            "tokenize": {"vocab_size": 600},
            "train": {"tokens": 100000},
            "curate": {
                "languages": kinds,
                "decontaminate": {"tasks": {"mine": {"paths": [str(tmp_path / "task.jsonl")]}}},
                "task_items": {"most": 0},
                "validation_share": 0.001,
            },
        }
    )
    made = curate(recipe, tmp_path / "curate", [tmp_path / "in.jsonl"])
    steps = {line["name"]: line for line in made.facts["steps"]}
    assert steps["language"]["dropped"] == {} and steps["heuristics"]["dropped"] == {}
    assert made.facts["decontamination"]["tasks"]["mine"]["documents"] == 1
    details = json.loads((made.path / "details.json").read_text())
    assert details["rules_of"] == {"English": 6, "its language": 36}
    texts = [
        text for file in (made.path / "train").glob("*.parquet") for text in pq.read_table(file)["text"].to_pylist()
    ]
    assert not any(leaked[:60] in text for text in texts)
