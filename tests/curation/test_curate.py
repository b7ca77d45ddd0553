import errno
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
from megalith.curation import curate, engine, partition
from megalith.curation.corpus import read_units
from megalith.errors import InputError, ResourceError
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


def _write(path: Path, texts: list[str], *, pack: bool = False) -> Path:
    path.parent.mkdir(exist_ok=True)
    lines = [json.dumps({"text": text, "url": f"http://localhost/{abs(hash(text))}"}) for text in texts]
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if pack else data)
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
    assert set(samples) == {"kept"} | {step["name"] for step in curated.facts["steps"]}
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
    assert set(train[0]) == {"id", "url", "source", "text", "language", "source_id", "metadata"}
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


@pytest.mark.parametrize(("files", "cores"), [(3, 1), (17, 2)])
def test_partitions_and_cores_make_no_difference(
    files: int, cores: int, curated: Artifact, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_units, "FEWEST_BYTES", 1)  # each file by itself
    monkeypatch.setattr(engine, "_cores", lambda: cores)
    monkeypatch.setattr(engine, "WORTH_BYTES", 1)
    (tmp_path / "docs.jsonl").mkdir()
    shuffled = random.Random(files).sample(texts, len(texts))
    for number in range(files):
        _write(tmp_path / "docs.jsonl" / f"{number:02d}.jsonl.gz", shuffled[number::files], pack=True)
    other = curate(_recipe(), tmp_path / "other", [tmp_path / "docs.jsonl"])
    assert len(list((tmp_path / "other-documents" / "text").iterdir())) > files  # and parts of them
    assert _outputs(other) == _outputs(curated)


def test_thresholds_are_tried_again_without_reading_again(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _write(tmp_path / "docs.jsonl", texts)
    curate(_recipe(), tmp_path / "corpus", [source])

    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(partition, "read_documents", refuse)
    again = curate(_recipe("curate.heuristics.minimum_characters=3000"), tmp_path / "corpus", [source])
    assert again.facts["steps"][3]["dropped"]["minimum_characters"] > 1


def test_a_full_disk_leaves_nothing_half_written(
    curated: Artifact, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_units, "FEWEST_BYTES", 1)
    monkeypatch.setattr(read_units, "MOST_PARTS", {})  # three units
    monkeypatch.setattr(engine, "_cores", lambda: 1)
    (tmp_path / "docs.jsonl").mkdir()
    for number in range(3):
        _write(tmp_path / "docs.jsonl" / f"{number}.jsonl.gz", texts[number::3], pack=True)
    judge, batches = partition._judge, []

    def fill_up(batch: Any, *others: Any) -> Any:
        batches.append(batch)
        if len(batches) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return judge(batch, *others)

    monkeypatch.setattr(partition, "_judge", fill_up)
    with pytest.raises(ResourceError, match="disk is full"):
        curate(_recipe(), tmp_path / "corpus", [tmp_path / "docs.jsonl"])
    left = tmp_path / ".corpus-documents.partial"
    assert sorted(file.name for file in (left / "text").iterdir()) == ["00000.parquet", "00001.parquet"]
    assert not list(left.rglob("*.tmp"))
    made = curate(_recipe(), tmp_path / "corpus", [tmp_path / "docs.jsonl"])
    assert len(batches) == 4  # the third unit alone was read again
    assert _outputs(made) == _outputs(curated)


def test_what_an_earlier_artifact_holds_is_not_kept_again(texts: list[str], tmp_path: Path) -> None:
    first = curate(_recipe(), tmp_path / "first", [_write(tmp_path / "first.jsonl", texts[:40])])
    new = [*texts[20:60], f"{texts[2]}\n\nAnd one line more."]
    for place in ("first", "first-documents"):
        recipe = _recipe(f"curate.against=[{tmp_path / place}]")
        second = curate(recipe, tmp_path / f"against-{place}", [_write(tmp_path / "second.jsonl", new)])
        dropped = {step["name"]: step["dropped"] for step in second.facts["steps"]}
        assert dropped["exact"]["duplicate of an earlier artifact"] >= 18
        assert dropped["minhash"]["near duplicate of an earlier artifact"] >= 1
        kept, held = ({row["text"] for split in ("train", "validation") for row in _split(one, split)}
                      for one in (second, first))  # fmt: skip
        assert kept and not kept & held
        samples = json.loads((second.path / "samples.json").read_text())["exact"]
        assert {sample["kept"]["id"] for sample in samples} <= {
            row["id"].partition("-")[0] for split in ("train", "validation") for row in _split(first, split)
        }


def test_trusted_datasets_are_deduplicated_and_not_filtered(texts: list[str], tmp_path: Path) -> None:
    books, web = tmp_path / "b" / "data.jsonl", tmp_path / "w" / "data.jsonl"
    _write(books, [*texts[:20], SHORT, GERMAN])
    _write(web, [*texts[10:50], f"{SHORT} It rained.", GERMAN])
    datasets = f"books: {{paths: [{books}], heuristics: false, language: false}}, web: {{paths: [{web}]}}"
    recipe = _recipe(f"curate.datasets={{{datasets}}}")
    made = curate(recipe, tmp_path / "corpus", [Path(path) for path in recipe.curate.paths])
    rows = _split(made, "train") + _split(made, "validation")
    sources = {row["text"]: row["source"] for row in rows}
    assert sources[SHORT] == sources[GERMAN.strip()] == "books"
    assert f"{SHORT} It rained." not in sources
    assert {sources[text] for text in texts[10:20] if text in sources} == {"books"}
    assert made.facts["datasets"]["books"]["documents_in"] == 22
    assert made.facts["datasets"]["web"]["documents_out"] <= 30


def test_tasks_of_the_user_are_cut_and_indexed(texts: list[str], tmp_path: Path) -> None:
    words = texts[4].split()
    asked, unseen = " ".join(words[60:80]), "no document of any corpus says this of fourteen purple cats on a hill"
    (tmp_path / "quiz.jsonl").write_text(
        json.dumps({"question": unseen, "options": ["yes"]}) + "\n" + json.dumps({"question": "?", "options": [asked]})
    )
    settings = f"quiz: {{paths: [{tmp_path / 'quiz.jsonl'}], fields: [question, options]}}"
    recipe = _recipe(f"curate.decontaminate.tasks={{{settings}}}")
    made = curate(recipe, tmp_path / "corpus", [_write(tmp_path / "docs.jsonl", texts)])
    report = made.facts["decontamination"]["tasks"]["quiz"]
    assert report["texts"] == 4 and report["ngrams"] >= 10
    train = " ".join(" ".join(row["text"].split()) for row in _split(made, "train"))
    validation = " ".join(" ".join(row["text"].split()) for row in _split(made, "validation"))
    assert asked not in train
    assert report["matches"] == 1 or asked in validation
    index = pq.read_table(made.path / "ngrams.parquet").to_pylist()
    seen = {row["item"]: row["times"] > 0 for row in index if row["task"] == "quiz"}
    assert seen == {"0": False, "1": report["matches"] == 1}
    assert {row["task"] for row in index} == {"quiz", "last_word", "continuation"}


def test_what_stands_often_in_all_partitions_together_is_common_language_and_stays(
    texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_units, "FEWEST_BYTES", 1)
    monkeypatch.setattr(engine, "_cores", lambda: 1)
    phrase = "the committee of seven had met on the first Monday of every month since the old bridge was built"
    (tmp_path / "docs.jsonl").mkdir()
    for number in range(4):
        some = [f"{text} {phrase}." for text in texts[4 * number : 4 * number + 4]]
        _write(tmp_path / "docs.jsonl" / f"{number}.jsonl.gz", some, pack=True)
    (tmp_path / "quiz.txt").write_text(f"{phrase}\n")
    recipe = _recipe(f"curate.decontaminate.tasks={{quiz: {{paths: [{tmp_path / 'quiz.txt'}]}}}}")
    made = curate(recipe, tmp_path / "corpus", [tmp_path / "docs.jsonl"])
    index = [row for row in pq.read_table(made.path / "ngrams.parquet").to_pylist() if row["task"] == "quiz"]
    rows = _split(made, "train")
    assert {row["times"] for row in index} == {sum(phrase in row["text"] for row in rows)}
    assert all(row["frequent"] for row in index) and all(phrase in row["text"] for row in rows)
    assert len(rows) >= 10


def test_quality_and_private_data_are_judged_when_asked(texts: list[str], tmp_path: Path) -> None:
    crawl = [f"Buy cheap pills now, write to {name}@pills.com! " * 30 + name for name in map(str, range(60))]
    good, raw = _write(tmp_path / "good.jsonl", texts[:30]), _write(tmp_path / "raw.jsonl", crawl + texts[30:60])
    datasets = f"good: {{paths: [{good}], quality: false}}, raw: {{paths: [{raw}], heuristics: false}}"
    recipe = _recipe(f"curate.datasets={{{datasets}}}", "curate.quality.positives=[good]", "curate.private.emails=true")
    made = curate(recipe, tmp_path / "corpus", [good, raw])
    (step,) = (step for step in made.facts["steps"] if step["name"] == "quality")
    assert step["dropped"]["quality"] > 10
    assert made.facts["quality"]["documents_per_class"] == 30
    assert (tmp_path / "corpus-quality" / "model.safetensors").is_file()
    rows = _split(made, "train") + _split(made, "validation")
    assert not any("@pills.com" in row["text"] for row in rows)
    assert (made.facts["private"].get("email", 0) > 0) == any("<EMAIL>" in row["text"] for row in rows)
    assert json.loads((made.path / "details.json").read_text())["histograms"]["quality"]


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
