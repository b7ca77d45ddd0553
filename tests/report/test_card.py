"""The dataset card: every figure of the artifact is on it, texts stay texts, and the artifact is not touched."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from megalith.artifacts import open_artifact, produce, verify
from megalith.cli import app
from megalith.errors import InputError
from megalith.report import card_metadata
from megalith.report.card import make_card, write_card
from megalith.report.card_histograms import histogram
from megalith.report.card_views import limits
from megalith.report.views import pieces_note

HOSTILE = "<script>alert(1)</script> | <img src=x onerror=alert(1)> \x1b[31m\u202egnp.exe"
KEPT, NEAR, SAME = "0" * 31 + "a", "1" * 32, "0" * 31 + "b"
KEPT_TEXT = "many words that both texts share before they part here " * 4 + "and then this one says yes to all"
NEAR_TEXT = KEPT_TEXT.replace("yes", "no")
STEP: dict[str, Any] = {"bytes_in": 9000, "bytes_out": 9000, "dropped": {}, "dropped_bytes": {}, "split_off": 0}
FUNNEL = [
    {**STEP, "name": "read", "documents_in": 100, "documents_out": 100},
    {**STEP, "name": "heuristics", "documents_in": 100, "documents_out": 71, "bytes_out": 7777,
     "dropped": {"minimum_words": 23, HOSTILE: 6}, "dropped_bytes": {"minimum_words": 1123, HOSTILE: 100}},
    {**STEP, "name": "minhash", "documents_in": 71, "documents_out": 68, "bytes_in": 7777, "bytes_out": 7000,
     "dropped": {"near duplicate": 2, "duplicate": 1}, "dropped_bytes": {"near duplicate": 700, "duplicate": 77}},
]  # fmt: skip


@pytest.fixture
def curated(tmp_path: Path) -> Path:
    """A small curate artifact with its documents beside it."""
    folder = tmp_path / "curate-documents" / "text"
    folder.mkdir(parents=True)
    ids = pa.array([bytes.fromhex(name) for name in (KEPT, NEAR, SAME)], pa.binary(16))
    pq.write_table(pa.table({"id": ids, "text": [KEPT_TEXT, NEAR_TEXT, KEPT_TEXT]}), folder / "0.parquet")

    def build(workspace: Any) -> dict[str, Any]:
        samples = {
            "heuristics": [{"id": NEAR, "url": "https://a.example/<b>", "text": HOSTILE, "reason": "minimum_words"}],
            "kept": [{"id": KEPT, "url": "https://a.example/1", "text": "a kept text"}],
        }
        dropped = [
            {"id": NEAR, "url": "https://a.example/2", "reason": "near duplicate"},
            {"id": SAME, "url": "https://a.example/3", "reason": "duplicate"},
        ]
        details = {
            "funnel": FUNNEL,
            "histograms": {"signals.words": {"edges": [0, 1, 2, 5, 10, 20, 50, 100], "counts": [0, 0, 0, 3, 90, 0, 7]}},
            "languages": {"web": {"de": 1, "en": 99}},
            "domains": [{"domain": "a.example", "documents": 68, "bytes": 7000}],
            "different_domains": 1,
            "clusters": [{"documents": 3, "kept": {"id": KEPT, "url": "https://a.example/1"}, "dropped": dropped}],
            "decontamination": {"matches": 4, "documents_trimmed": 2, "documents_split": 1, "documents_dropped": 0,
                                "tasks": {"last_word": {"texts": 10, "ngrams": 41, "matches": 4, "documents": 3,
                                                        "frequent_ngrams": 5}}},
            "private": {"email": 17},
            "datasets": {"books": {"licence": "the recipe's"},
                         "web": {"documents_in": 100, "documents_out": 68, "bytes_in": 9000, "bytes_out": 7000}},
        }  # fmt: skip
        workspace.write_json("samples.json", samples)
        workspace.write_json("details.json", details)
        steps = [step | {"seconds": 1.5} for step in FUNNEL]
        return {
            "documents_in": 100, "documents_out": 68, "bytes_in": 9000, "bytes_out": 7000, "steps": steps,
            "quality": {"documents_per_class": 31, "held_out": {
                "documents": 6, "accuracy": 0.90317,
                "bins": [{"documents": 6, "mean_score": 0.123, "positive_share": 0.1452}],
            }},
            "training_documents": 60, "validation_documents": 8, "documents": "curate-documents",
        }  # fmt: skip

    settings = {"datasets": [["web", True], ["books", True]], "curate": {"heuristics": {"minimum_words": 8}}}
    produce(tmp_path / "curate", stage="curate", settings=settings, inputs={}, seed=1, build=build)
    return tmp_path / "curate"


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.marked: list[str] = []
        self.texts = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts += data
        if self.tags and self.tags[-1] == "mark":
            self.marked.append(data)
            self.tags.append("/mark")


def test_every_figure_of_the_artifact_is_on_the_card(curated: Path) -> None:
    folder = write_card(curated, {"web": "CC-BY 4.0"})
    card = json.loads((folder / "card.json").read_text())
    assert [step["dropped"] for step in card["steps"]] == [step["dropped"] for step in FUNNEL]
    assert re.findall(r"^. (web|books) ", (folder / "card.md").read_text(), re.MULTILINE)[:2] == ["web", "books"]
    assert card["digest"] == open_artifact(curated, "curate").digest
    for text in ((folder / "card.md").read_text(), _Page((folder / "card.html").read_text()).texts):
        for said in (
            "CC-BY 4.0",
            "1.12 kB",
            "near duplicate",
            "7.78 kB",
            "a.example",
            "17",
            "41",
            "0.9032",
            card["digest"],
        ):
            assert said in text, said


def test_texts_of_the_corpus_stay_texts(curated: Path) -> None:
    folder = write_card(curated)
    page, markdown = _Page((folder / "card.html").read_text()), (folder / "card.md").read_text()
    assert not {"script", "img"} & set(page.tags)
    assert "alert(1)" in page.texts
    assert not re.search(r"[\x00-\x08\x1b\u202a-\u202e]|<script|<img", markdown)
    for block in markdown.split("\n\n"):
        if block.startswith("|"):  # no cell breaks out of its row
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_a_cluster_shows_the_words_in_which_its_texts_part(curated: Path) -> None:
    folder = write_card(curated)
    assert _Page((folder / "card.html").read_text()).marked == ["yes", "no"]
    (cluster,) = json.loads((folder / "card.json").read_text())["clusters"]
    same = cluster["dropped"][1]
    assert not any(differs for _, differs in same["pieces"])


def test_without_the_documents_clusters_are_told_by_address(curated: Path) -> None:
    for file in (curated.parent / "curate-documents" / "text").iterdir():
        file.unlink()
    page = _Page((write_card(curated) / "card.html").read_text())
    assert page.marked == []
    assert "https://a.example/2" in page.texts


def test_the_artifact_is_not_touched_and_the_same_card_is_written_twice(curated: Path) -> None:
    first = {path.name: path.read_bytes() for path in write_card(curated).iterdir()}
    assert {path.name: path.read_bytes() for path in write_card(curated).iterdir()} == first
    assert not any(one.damaged for one in verify(curated))


@pytest.mark.parametrize("inside", [".", "card", "../curate/train"])
def test_a_card_within_the_artifact_is_refused(curated: Path, inside: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in curated.rglob("*")}
    done = CliRunner().invoke(app, ["card", str(curated), "-o", str(curated / inside)])
    assert done.exit_code == 2
    assert "this folder lies in the artifact" in " ".join(done.stderr.split())
    assert {path: path.stat().st_mtime_ns for path in curated.rglob("*")} == before


def test_the_card_of_the_folder_one_stands_in_lies_beside_it(curated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(curated)
    write_card(Path())
    assert curated.with_name("curate-card").is_dir()


def test_a_file_in_the_cards_place_is_told_of(curated: Path, tmp_path: Path) -> None:
    (tmp_path / "some.jsonl").touch()
    done = CliRunner().invoke(app, ["card", str(curated), "-o", str(tmp_path / "some.jsonl")])
    assert done.exit_code == 2
    assert "a file stands where a directory is wanted" in " ".join(done.stderr.split())


def test_a_licence_for_a_data_set_that_is_not_there_is_refused(curated: Path) -> None:
    with pytest.raises(InputError, match="news") as caught:
        write_card(curated, {"news": "public domain"})
    assert "web" in str(caught.value)


def test_a_licence_that_is_given_takes_the_place_of_the_recipes(curated: Path) -> None:
    artifact = open_artifact(curated, "curate")
    assert make_card(artifact, {})["datasets"]["books"]["licence"] == "the recipe's"
    assert make_card(artifact, {"books": "CC0"})["datasets"]["books"]["licence"] == "CC0"


def test_a_rules_limit_stands_among_the_bars_where_it_cuts() -> None:
    config = {"heuristics": {"minimum_words": 8, "maximum_top_ngram_characters": [0.2, 0.18], "maximum_lines": 1.0}}
    assert limits(config) == {
        "signals.words": (8,), "signals.top_2gram_characters": (0.2,), "signals.top_3gram_characters": (0.18,),
    }  # fmt: skip
    drawn = histogram({"edges": [0, 1, 2, 5, 10, 20], "counts": [0, 0, 0, 5, 5]}, (6,))
    place = re.search(r'x1="([\d.]+)"', drawn.drawing)
    assert place is not None
    assert float(place[1]) == pytest.approx(220 * 0.5 * (6 - 5) / (10 - 5))
    assert (drawn.low, drawn.high) == ("5", "20")


def test_a_histogram_of_nothing_says_so() -> None:
    assert histogram({"edges": [0, 1, 2], "counts": [0, 0]}).told == "not measured"


def test_the_verb_writes_the_card_and_prints_it(curated: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(app, ["card", str(curated), "--licence", "web=CC-BY 4.0", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads((curated.with_name("curate-card") / "card.json").read_text())
    assert json.loads(done.stdout)["datasets"]["web"]["licence"] == "CC-BY 4.0"
    wrong = runner.invoke(app, ["card", str(curated), "--licence", "CC-BY"])
    assert wrong.exit_code == 2


def test_hubs_read_licence_languages_and_size_from_the_front_matter(curated: Path) -> None:
    told = (write_card(curated, {"web": "CC-BY 4.0", "books": "ODC-BY"}) / "card.md").read_text()
    assert told.startswith("---\n")
    held = yaml.safe_load(told.split("---\n")[1])
    assert sorted(held["license"]) == ["cc-by-4.0", "odc-by"]
    assert held["language"] == ["en", "de"]
    assert held["size_categories"] == ["n<1K"]
    assert held["pretty_name"] and held["tags"] and held["source_datasets"] == ["original"]
    assert held["configs"][0]["data_files"][0] == {"split": "train", "path": "train/*.parquet"}


@pytest.mark.parametrize(
    ("said", "licence"),
    [
        ([None], {"license": "unknown"}),
        (["MIT", None], {"license": "unknown"}),
        (["MIT License"], {"license": "mit"}),
        (["MIT", "as the sites say: no"], {"license": "other", "license_name": "MIT; as the sites say: no"}),
    ],
)
def test_a_licence_that_the_hub_has_no_name_for_is_told_in_words(
    said: list[str | None], licence: dict[str, str]
) -> None:
    assert card_metadata._licence(said) == licence


def test_pieces_of_documents_are_explained_beside_the_funnel() -> None:
    assert "each counts as a document from there on (31 more)" in pieces_note({"steps": [{"split_off": 31}, {}]})
    assert pieces_note({"steps": [{"split_off": 0}]}) == ""
