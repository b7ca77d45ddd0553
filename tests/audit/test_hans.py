"""HANS: planted answers by heuristic, label and shots, and published predictions."""

import itertools
import math
import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from megalith.audit import hans_predictions
from megalith.audit.answers import ask
from megalith.audit.hans import CLUSTER, hans, hans_documents, summary
from megalith.audit.hans_shots import hans_shots
from megalith.audit.instrument import Facts, Instrument, Item
from megalith.audit.planted import Planted, label_counts, label_prior, last_label, lexical_overlap, subsequence
from megalith.audit.subject import LanguageSubject, Subject
from megalith.errors import InputError
from megalith.evaluation.shots import ShotPlan
from megalith.evaluation.tasks.hans_templates import HEURISTICS, LABELS, SUBCASES
from megalith.inference import LanguageModel
from megalith.statistics import clustered_interval
from tests.inference.models import logits_of, plant

DOCUMENTS, POOL = hans_documents(10, seed=1)


def facts_of(instrument: Instrument, subject: Subject) -> Facts:
    return instrument.summary({run.name: run.judge(subject) for run in instrument.runs})


def asked(lm: LanguageModel, documents: int = 60, shots: int = 0) -> list[Item]:
    plans = {"": ShotPlan(count=shots, seed=1, labels="balanced")}
    return ask(LanguageSubject(lm, 1000), DOCUMENTS[:: 60 // documents], POOL, plans, CLUSTER)


@pytest.mark.parametrize(("true", "false"), [(3.0, 1.0), (1.0, 3.0)])
def test_a_model_that_always_answers_alike_is_right_on_one_label_alone(
    lm: LanguageModel, true: float, false: float
) -> None:
    logits = logits_of(lm.tokenizer, {" True": true, " False": false})
    items = asked(plant(lm, logits.repeat(len(logits), 1)))
    assert len(lm.tokenizer.encode(" True")) == len(lm.tokenizer.encode(" False")) == 1
    assert {round(abs(item["margin"]), 5) for item in items} == {2.0}
    told = summary(items)
    assert (told["accuracy"], told["examples"], told["answered_true"]) == (0.5, 60, float(true > false))
    for cell in told["cells"]:
        assert cell["accuracy"] == float((cell["label"] == "entailment") == (true > false))
        assert (cell["documents"], cell["mean_margin"]) == (10, pytest.approx(true - false, abs=1e-5))
    named = [(cell["heuristic"], cell["label"]) for cell in told["cells"]]
    assert named == list(itertools.product(HEURISTICS, LABELS))
    assert [(row["heuristic"], row["label"], row["subcase"]) for row in told["subcases"]] == list(SUBCASES)
    assert "not told apart from chance" in told["note"]


def test_no_margin_is_half_right(lm: LanguageModel) -> None:
    assert [item["correct"] for item in asked(plant(lm, torch.zeros(512, 512)), documents=1)] == [0.5]


def test_pure_lexical_overlap_has_all_entailed_and_no_other_pairs_right() -> None:
    told = facts_of(hans(DOCUMENTS, POOL, 0, 1), Planted(lexical_overlap(margin=2.0)))
    assert {(cell["label"], cell["accuracy"]) for cell in told["cells"]} == {("entailment", 1), ("non-entailment", 0)}
    assert all(cell["mean_margin"] == pytest.approx(2.0, abs=1e-5) for cell in told["cells"])


def test_a_reader_of_subsequences_is_told_apart_from_one_of_overlap() -> None:
    told = facts_of(hans(DOCUMENTS, POOL, 0, 1), Planted(subsequence()))
    cells = {(cell["heuristic"], cell["label"]): cell["accuracy"] for cell in told["cells"]}
    assert cells["lexical_overlap", "entailment"] == 0.0
    assert cells["subsequence", "entailment"] == cells["constituent", "entailment"] == 1.0
    assert cells["subsequence", "non-entailment"] == cells["constituent", "non-entailment"] == 0.0


def test_histograms_count_every_margin_once() -> None:
    told = facts_of(hans(DOCUMENTS, POOL, 0, 1), Planted(label_prior(0.9)))
    edges = told["histograms"]["edges"]
    for row in told["histograms"]["rows"]:
        (place,) = (at for at, count in enumerate(row["counts"]) if count)
        assert row["counts"][place] == 10
        assert edges[place] <= math.log(9) < edges[place + 1]


def test_the_note_follows_the_interval() -> None:
    def items(right: int) -> list[Item]:
        return [
            {
                "fields": {"heuristic": HEURISTICS[at % 3], "label": LABELS[at % 2], "subcase": SUBCASES[at % 30][2]},
                "cluster": str(at),
                "correct": float(at < right),
                "log_probabilities": [-1.0, -2.0],
                "truncated": False,
            }
            for at in range(100)
        ]

    assert "not told apart from chance" in summary(items(55))["note"]
    assert "above chance" in summary(items(70))["note"]
    assert "below chance" in summary(items(30))["note"]
    assert summary(items(70))["standard_error"] == pytest.approx(math.sqrt(0.7 * 0.3 / 99))


def test_intervals_hold_the_planted_accuracy_as_often_as_they_say() -> None:
    numbers = random.Random(1)
    held = []
    for _ in range(300):
        correct = [float(numbers.random() < 0.7) for _ in DOCUMENTS]
        templates = [document.fields["template"] for document in DOCUMENTS]
        low, high = clustered_interval(correct, templates, proportion=True)
        held.append(low <= 0.7 <= high)
    assert 0.92 <= sum(held) / len(held) <= 0.99


def test_shots_are_other_examples_of_both_labels(lm: LanguageModel) -> None:
    for item in asked(lm, documents=6, shots=4):
        assert item["id"] not in [POOL[place].id for place in item["shots"]]
        assert Counter(item["shot_labels"]) == {"True": 2, "False": 2}
        assert len(set(item["shots"])) == 4


def rows_of(table: list[Facts]) -> dict[str, Facts]:
    return {row["plan"]: row for row in table}


def test_a_copier_of_the_last_label_is_right_as_often_as_that_label_is() -> None:
    told = facts_of(hans_shots(DOCUMENTS, POOL, (0, 1, 4), 4, 1), Planted(last_label()))
    counts, sources = rows_of(told["tables"]["counts"]), rows_of(told["tables"]["sources"])
    assert (counts["0"]["accuracy"], counts["0"]["mean_margin"]) == (0.5, 0.0)
    assert counts["1"]["accuracy"] == counts["1"]["right_labels"]
    assert (sources["same sub-case"]["accuracy"], sources["same sub-case"]["right_labels"]) == (1.0, 1.0)
    mix = rows_of(told["tables"]["mix"])
    assert (mix["100% True"]["answered_true"], mix["0% True"]["answered_true"]) == (1.0, 0.0)
    assert told["tables"]["sources"][0]["shift_interval"] is None


def test_margins_that_count_labels_move_by_the_planted_nats_and_not_with_order() -> None:
    told = facts_of(hans_shots(DOCUMENTS, POOL, (0, 2), 4, 1), Planted(label_counts(per_shot=0.25)))
    mix = rows_of(told["tables"]["mix"])
    assert {name: row["mean_margin"] for name, row in mix.items()} == pytest.approx(
        {"50% True": 0.0, "0% True": -1.0, "25% True": -0.5, "75% True": 0.5, "100% True": 1.0}, abs=1e-5
    )
    assert mix["75% True"]["shift_interval"] == pytest.approx([0.5, 0.5], abs=1e-5)
    for row in told["tables"]["orders"][1:]:
        assert (row["shift"], row["shift_interval"]) == (0.0, [0.0, 0.0])


def test_the_official_file_is_asked_by_subcase(tmp_path: Path) -> None:
    header = "gold_label\tsentence1\tsentence2\tpairID\theuristic\tsubcase\ttemplate"
    rows = [
        f'{label}\tThe "actor" slept {n} .\tThe actor slept .\tex{place}{n}\t{heuristic}\t{subcase}\ttemp1'
        for place, (heuristic, label, subcase) in enumerate(SUBCASES)
        for n in range(8)
    ]
    file = tmp_path / "heuristics_evaluation_set.txt"
    file.write_text("\n".join([header, *rows]) + "\n")
    documents, pool = hans_documents(12, 1, file)
    assert (len(pool), len(documents)) == (240, 90)
    assert set(Counter(document.fields["subcase"] for document in documents).values()) == {3}
    assert documents[0].prompt.startswith('The "actor" slept')
    told = facts_of(hans(documents, pool, 2, 1), Planted(label_prior(0.9)))
    assert told["accuracy"] == 0.5
    file.write_text("\n".join([header, *rows[8:]]) + "\n")
    with pytest.raises(InputError, match="no examples of the sub-case ln_subject/object_swap"):
        hans_documents(12, 1, file)


def predictions(change: dict[int, str] | None = None, leave_out: int | None = None) -> str:
    """A file that is right on everything but what is changed."""
    answers = {n: SUBCASES[n // 1000][1] for n in range(30_000)} | (change or {})
    lines = [f"ex{n},{answer}" for n, answer in answers.items() if n != leave_out]
    return "pairID,gold_label\n" + "\n".join(lines) + "\n"


def test_predictions_are_scored_by_place_and_neutral_is_non_entailment(tmp_path: Path) -> None:
    file = tmp_path / "predictions.txt"
    file.write_text(predictions({0: "neutral", 1: "contradiction", 2: "entailment", 29_999: "non-entailment"}))
    told = hans_predictions(file)
    assert told["accuracy"] == pytest.approx(1 - 2 / 30_000)
    assert (told["subcases"][0]["accuracy"], told["subcases"][29]["accuracy"]) == (0.999, 0.999)
    assert told["subcases"][1]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (predictions(leave_out=7), "1 of the 30,000 predictions are missing"),
        (predictions() + "ex5,entailment\n", "ex5 comes twice"),
        (predictions({3: "yes"}), "'yes' is not an answer"),
        ("pairID,gold_label\nex30000,entailment\n", "'ex30000' is not one of"),
        ("id,label\nex1,entailment\n", "no field 'pairID'"),
    ],
    ids=["missing", "twice", "answer", "number", "header"],
)
def test_predictions_that_are_not_whole_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "predictions.txt").write_text(text)
    with pytest.raises(InputError, match=complaint):
        hans_predictions(tmp_path / "predictions.txt")


@pytest.mark.parametrize(
    ("file", "published"),
    [  # entailed, not entailed: lexical overlap, subsequence, constituent
        ("bert_preds", (0.946, 0.164, 0.993, 0.039, 0.984, 0.161)),
        ("esim_heur_preds", (0.982, 0.010, 0.998, 0.018, 0.985, 0.008)),
        ("decomp_attn_heur_preds", (0.989, 0.008, 0.996, 0.024, 0.967, 0.033)),
        ("spinn_preds_heur", (0.958, 0.021, 0.956, 0.059, 0.932, 0.105)),
    ],
)
def test_the_published_predictions_of_four_systems_give_the_published_accuracies(
    data_directory: Path, file: str, published: tuple[float, ...]
) -> None:
    path = data_directory / "benchmarks" / "hans" / f"{file}.txt.gz"
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    assert tuple(round(cell["accuracy"], 3) for cell in hans_predictions(path)["cells"]) == published
