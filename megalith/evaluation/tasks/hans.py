"""HANS: does the hypothesis follow, or does it only look like the premise? 30 sub-cases of three heuristics.

Entailment is "True"; neutral and contradiction are one class, "False". Errors are clustered by template. Where the
published set is missing, one of its format that was drawn again from the published templates is read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, json_lines, table_rows
from megalith.evaluation.prompts import choices
from megalith.evaluation.task import Task

_ORIGIN = "github.com/tommccoy1/hans"
LABELS = ("entailment", "non-entailment")


def _records(paths: Sequence[Path]) -> Iterator[Record]:
    path = paths[0]
    return table_rows(path, "\t") if ".txt" in path.suffixes else json_lines(path)


def hans_document(record: Record, answers: tuple[str, str] = (" True", " False")) -> Document:
    """A pair of sentences in the prompt of GPT-3's RTE, as MT-NLG asks it."""
    gold = record.place("gold_label", LABELS)
    subcase, template = record.text("subcase"), record.text("template")
    return choices(
        f"{record.text('sentence1')}\nQuestion: {record.text('sentence2')} True or False?\nAnswer:",
        answers,
        gold,
        id=record.text("pairID"),
        label=answers[gold].strip(),
        fields={
            "heuristic": record.text("heuristic"),
            "label": LABELS[gold],
            "subcase": subcase,
            "template": f"{subcase}/{template}",
        },
    )


HANS = Task(
    name="hans",
    kind="choice",
    about="inference that shallow heuristics get wrong",
    paper="McCoy et al. 2019, arXiv 1902.01007",
    licence="MIT",
    prompts={"lm_eval": hans_document},
    files=(
        DataFile(
            (
                "hans/heuristics_evaluation_set.jsonl",
                "hans/heuristics_evaluation_set.txt",
                "hans/regenerated/hans_regen_seed20191.compact.jsonl",
            ),
            _ORIGIN,
        ),
    ),
    shot_files=(DataFile(("hans/heuristics_train_set.jsonl", "hans/heuristics_train_set.txt"), _ORIGIN),),
    records=_records,
    cluster="template",
    by=("heuristic", "label", "subcase"),
)
