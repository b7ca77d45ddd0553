import gzip
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.artifacts import Artifact
from megalith.curation import curate, steps
from megalith.errors import InputError
from megalith.recipe import Recipe, load_recipe
from tests.corpus import docstrings

SHORT = "The captain walked along the harbour every morning and counted the ships that had come in with the night."
GERMAN = (
    "Der alte Kapitän ging jeden Morgen am Hafen entlang und zählte die Schiffe, die in der Nacht gekommen waren. " * 8
)


def _recipe(*overrides: str) -> Recipe:
    settings = ("curate.validation_share=0.2", "curate.task_items.most=30", "curate.heuristics.minimum_stop_words=1")
    return load_recipe("quickstart", [*settings, *overrides])[0]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Docstrings, and planted: an exact copy but for case, a near-copy, a German and a short document."""
    prose = [text for text in docstrings() if 1500 < len(text) < 30_000][:60]
    return [*prose, prose[3].upper().lower(), f"{prose[5]}\n\nAnd one line more.", GERMAN, SHORT]


@pytest.fixture(scope="module")
def curated(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    place = tmp_path_factory.mktemp("curated")
    return curate(_recipe(), place / "corpus", [_write(place / "docs.jsonl", texts)])


def _write(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    lines = [json.dumps({"text": text, "url": f"http://localhost/{abs(hash(text))}"}) for text in texts]
    path.write_text("\n".join(lines) + "\n")
    return path


def _split(artifact: Artifact, name: str) -> list[dict[str, Any]]:
    files = sorted((artifact.path / name).glob("part-*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def _outputs(artifact: Artifact) -> dict[str, str]:
    return {output.path: output.sha256 for output in artifact.manifest.outputs}


def test_the_funnel_accounts_for_every_document_and_byte(curated: Artifact, texts: list[str]) -> None:
    steps_taken = curated.facts["steps"]
    assert [step["name"] for step in steps_taken] == [
        "read", "extract", "language", "heuristics", "exact", "minhash", "held_out", "decontaminate"
    ]  # fmt: skip
    for before, after in itertools.pairwise(steps_taken):
        assert after["documents_in"] == before["documents_out"]
        assert after["bytes_in"] == before["bytes_out"]
        if after["name"] != "decontaminate":
            assert after["documents_in"] - sum(after["dropped"].values()) == after["documents_out"]
    rows = _split(curated, "train") + _split(curated, "validation")
    assert curated.facts["documents_in"] == len(texts)
    assert curated.facts["documents_out"] == len(rows)
    assert curated.facts["bytes_out"] == sum(len(row["text"].encode()) for row in rows)
    assert json.loads(json.dumps(curated.facts, allow_nan=False)) == curated.facts


def test_each_step_drops_what_was_planted_for_it(curated: Artifact) -> None:
    dropped = {step["name"]: step["dropped"] for step in curated.facts["steps"]}
    assert dropped["language"]["language de"] == 1
    assert dropped["heuristics"]["minimum_characters"] == 1
    assert dropped["exact"] == {"duplicate": 1}
    assert dropped["minhash"] == {"near duplicate": 1}


def test_samples_show_what_was_dropped_and_for_the_sake_of_which_copy(curated: Artifact) -> None:
    samples = json.loads((curated.path / "samples.json").read_text())
    assert set(samples) == {step["name"] for step in curated.facts["steps"]}
    assert samples["language"][0]["text"] == GERMAN[:400].strip()
    kept = {row["id"] for row in _split(curated, "train") + _split(curated, "validation")}
    for step in ("exact", "minhash"):
        (sample,) = samples[step]
        assert sample["kept"]["id"].partition("-")[0] in {name.partition("-")[0] for name in kept}
        assert sample["kept"]["url"] != sample["url"]


def test_splits_are_sorted_and_have_no_document_in_common(curated: Artifact) -> None:
    train, validation = _split(curated, "train"), _split(curated, "validation")
    assert [row["id"] for row in train] == sorted(row["id"] for row in train)
    assert len(validation) == curated.facts["validation_documents"] > 0
    assert not {row["text"] for row in train} & {row["text"] for row in validation}
    assert set(train[0]) == {"id", "url", "source", "text", "language"}
    assert {row["source"] for row in train} == {"docs.jsonl"} and {row["language"] for row in train} == {"en"}


def test_tasks_are_cut_from_validation_and_gone_from_training(curated: Artifact) -> None:
    validation = {row["id"]: row["text"] for row in _split(curated, "validation")}
    train = "\n".join(row["text"] for row in _split(curated, "train"))
    items = {
        task: [json.loads(line) for line in (curated.path / "tasks" / f"{task}.jsonl").read_text().splitlines()]
        for task in ("last_word", "continuation")
    }
    assert curated.facts["task_items"] == {task: len(found) for task, found in items.items()}
    assert items["last_word"] and items["continuation"]
    for item in items["last_word"]:
        assert item["context"] + item["target"] in validation[item["document"]]
        assert item["context"] + item["target"] not in train
    for item in items["continuation"]:
        assert item["context"] + item["choices"][item["answer"]] in validation[item["document"]]


def test_order_and_layout_of_the_input_make_no_difference(curated: Artifact, texts: list[str], tmp_path: Path) -> None:
    shuffled = random.Random(1).sample(texts, len(texts))
    source = tmp_path / "docs.jsonl"  # a directory of the same name, so that the documents' source is the same
    source.mkdir()
    _write(source / "b.jsonl", shuffled[:20])
    (source / "a.jsonl.gz").write_bytes(gzip.compress(_write(tmp_path / "rest", shuffled[20:40]).read_bytes()))
    rest = shuffled[40:]
    pq.write_table(
        pa.table({"url": [f"http://localhost/{abs(hash(text))}" for text in rest], "text": rest}),
        source / "c.parquet",
        row_group_size=3,
    )
    other = curate(_recipe(), tmp_path / "other", [source])
    assert _outputs(other) == _outputs(curated)
    assert other.digest == curated.digest


def test_a_run_that_was_killed_goes_on_where_it_was(
    curated: Artifact, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _write(tmp_path / "docs.jsonl", texts)

    def die(*_: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as killed:
        killed.setattr(steps, "judge_near_duplicates", die)
        with pytest.raises(RuntimeError, match="killed"):
            curate(_recipe(), tmp_path / "corpus", [source])
    with monkeypatch.context() as resumed:
        for finished in ("extract_text", "judge_language", "judge_heuristics", "judge_exact_duplicates"):
            resumed.setattr(steps, finished, die)
        artifact = curate(_recipe(), tmp_path / "corpus", [source])
    assert _outputs(artifact) == _outputs(curated)
    assert not (artifact.path / "work").exists()


def test_the_first_named_source_keeps_its_copy_of_a_duplicate(texts: list[str], tmp_path: Path) -> None:
    one, other = _write(tmp_path / "one.jsonl", texts[:4]), _write(tmp_path / "other.jsonl", texts[3:8])
    for number, sources in enumerate([[one, other], [other, one]]):
        artifact = curate(_recipe(), tmp_path / str(number), sources)
        shared = [row for row in _split(artifact, "train") + _split(artifact, "validation") if row["text"] == texts[3]]
        assert [row["source"] for row in shared] == [sources[0].name]


def test_two_documents_are_a_corpus(texts: list[str], tmp_path: Path) -> None:
    artifact = curate(_recipe(), tmp_path / "corpus", [_write(tmp_path / "docs.jsonl", texts[:2])])
    assert (artifact.facts["training_documents"], artifact.facts["validation_documents"]) == (1, 1)


def test_one_document_is_for_training_and_validation_is_empty(texts: list[str], tmp_path: Path) -> None:
    artifact = curate(_recipe(), tmp_path / "corpus", [_write(tmp_path / "docs.jsonl", texts[:1])])
    assert len(_split(artifact, "train")) == 1
    assert _split(artifact, "validation") == []
    assert artifact.facts["task_items"] == {"last_word": 0, "continuation": 0}


@pytest.mark.parametrize(
    ("overrides", "step", "key"),
    [
        (["curate.languages=[fr]"], "language", "curate.languages"),
        (["curate.heuristics.minimum_words=1000000"], "heuristics", "curate.heuristics"),
    ],
)
def test_when_nothing_is_left_the_error_names_the_step_and_the_key(
    overrides: list[str], step: str, key: str, texts: list[str], tmp_path: Path
) -> None:
    with pytest.raises(InputError) as raised:
        curate(_recipe(*overrides), tmp_path / "corpus", [_write(tmp_path / "docs.jsonl", texts[:5])])
    assert f"the {step} step" in str(raised.value) and key in str(raised.value)


def test_a_source_without_documents_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"title": "no text here"}\n')
    with pytest.raises(InputError, match=r"empty\.jsonl"):
        curate(_recipe(), tmp_path / "corpus", [empty])


def test_surrogates_in_json_are_no_obstacle(texts: list[str], tmp_path: Path) -> None:
    source = tmp_path / "docs.jsonl"
    source.write_text("".join(f'{{"text": {json.dumps(text)[:-1]} \\ud83d\\ude00 \\ud800"}}\n' for text in texts[:2]))
    artifact = curate(_recipe(), tmp_path / "corpus", [source])
    assert all("\U0001f600 \ufffd" in row["text"] for row in _split(artifact, "train"))
