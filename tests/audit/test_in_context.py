"""In-context sensitivity: planted readers of labels, order and documents come out with the planted figures."""

from collections.abc import Sequence
from typing import Any

import pytest

from megalith.audit.hans import CLUSTER, hans_documents
from megalith.audit.in_context import Asked, Design, in_context
from megalith.audit.instrument import Facts
from megalith.audit.planted import LogProbability, Planted, label_counts, label_prior, last_label
from megalith.errors import InputError
from megalith.evaluation.document import Choice, Document

DOCUMENTS, POOL = hans_documents(10, seed=1)
OTHERS = [one for one in POOL if one.id not in {document.id for document in DOCUMENTS}]
TRUE = [document for document in DOCUMENTS if document.label == "True"]
DESIGN = Design(counts=(0, 1, 4), shots=4, draws=3, orders=3, seed=1)


def facts_of(
    log_probability: LogProbability, documents: Sequence[Document] = DOCUMENTS, pool: Sequence[Document] = POOL
) -> Facts:
    instrument = in_context({"hans_generated": Asked(documents, pool, CLUSTER)}, DESIGN)
    told: Facts = instrument.summary({run.name: run.judge(Planted(log_probability)) for run in instrument.runs})
    (task,) = told["tasks"]
    assert isinstance(task, dict)
    return task


def shares(told: Facts, measure: str) -> dict[str, Any]:
    return {row["part"]: row["share"] for row in told["draws"][measure]["variance"]}


def test_a_model_that_reads_no_examples_is_moved_by_nothing() -> None:
    told = facts_of(label_prior(0.9))
    assert [(row["shots"], row["margin"]["difference"]) for row in told["counts"]] == [(0, 0), (1, 0), (4, 0)]
    assert all(row["shift"] == 0 and row["said_more"] == 0 for row in told["labels"])
    assert (told["draws"]["margin"]["deviation_of_prompts"], told["draws"]["margin"]["draws_test"]["p"]) == (0, 1)
    assert shares(told, "margin")["documents"] == pytest.approx(1)


def test_a_few_biased_examples_move_the_odds_by_the_planted_nats() -> None:
    told = facts_of(label_counts(per_shot=0.25))
    rows = {row["label"]: row for row in told["labels"]}
    for label in ("True", "False"):
        assert rows[label]["shift"] == pytest.approx(4 * 0.25, abs=1e-5)
        assert rows[label]["shift_interval"] == pytest.approx([1.0, 1.0], abs=1e-5)
        assert (rows[label]["said"], rows[label]["said_more"]) == ([0.5, 1.0], 0.5)
    assert rows["True"]["accuracy"] == [0.5, 0.5]


def test_wrong_answers_turn_a_counter_of_labels_round() -> None:
    told = facts_of(label_counts(per_shot=0.25), TRUE, [one for one in POOL if one.label == "True"])
    assert [row["margin"]["mean"] for row in told["wrong"]] == pytest.approx([1.0, 0.0, -1.0], abs=1e-5)
    assert [row["correct"]["mean"] for row in told["wrong"]] == [1.0, 0.5, 0.0]
    assert told["wrong"][2]["margin"]["difference_interval"] == pytest.approx([-2.0, -2.0], abs=1e-5)
    assert told["labels"] is None  # the pool has one class


def test_a_copier_of_the_last_label_varies_with_the_prompt_and_not_with_the_document() -> None:
    told = facts_of(last_label(), TRUE, OTHERS)  # all documents have the very same prompts
    parts = shares(told, "margin")
    assert parts["draws"] + parts["orders"] == pytest.approx(1)
    assert (told["draws"]["margin"]["lowest"], told["draws"]["margin"]["highest"]) == pytest.approx((-2.0, 2.0))
    assert told["draws"]["margin"]["orders_test"]["p"] == 0.0


def test_noise_of_documents_and_prompts_is_split_as_it_was_planted() -> None:
    def noisy(context: str, continuation: str) -> float:
        question = context.split("\n\n")[-1]
        document = (sum(question.encode()) * 7919 % 1000) / 1000
        interaction = (sum(context.encode()) * 104729 % 1000) / 5000
        return -1.0 if continuation == " False" else -1.0 + document + interaction

    told = facts_of(noisy, TRUE)
    assert shares(told, "margin")["documents"] > 0.85
    assert told["draws"]["margin"]["orders_test"]["p"] > 0.001


def test_tasks_that_cannot_be_varied_are_refused_or_left_out() -> None:
    def document(number: int) -> Document:
        choices = (Choice("Q", f" {number}"), Choice("Q", " no"))
        return Document(id=str(number), prompt="Q", choices=choices, solved=f"Q {number}", label=str(number))

    documents = [document(number) for number in range(8)]
    instrument = in_context({"t": Asked(documents, documents)}, DESIGN)
    assert [run.name for run in instrument.runs] == ["in_context-t-counts", "in_context-t-draws"]
    unanswerable = [Document(id="0", prompt="Q", answers=("a",), solved="Q a")]
    with pytest.raises(InputError, match="t has no choices to compare"):
        in_context({"t": Asked(unanswerable, unanswerable)}, DESIGN)
