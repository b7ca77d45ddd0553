"""HellaSwag: which of four endings follows. Wrong endings were written by a model and chosen to deceive models.

The clean-up of WikiHow's marks is that of GPT-3 and lm-eval: "[title]" ends a sentence, other brackets go.
"""

import re

from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record
from megalith.evaluation.prompts import choices
from megalith.evaluation.task import Task

_ORIGIN = "github.com/rowanz/hellaswag, data/"


def clean(text: str) -> str:
    """The text without WikiHow's marks."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def _document(record: Record) -> Document:
    context = f"{record.text('ctx_a')} {record.text('ctx_b').capitalize()}"
    endings = [f" {clean(ending)}" for ending in record.texts("endings")]
    return choices(
        clean(f"{record.text('activity_label')}: {context}"),
        endings,
        record.place("label", tuple(range(len(endings)))),
        group=str(record["source_id"]) if "source_id" in record else "",
        fields={"split": str(record["split_type"])} if "split_type" in record else {},
    )


HELLASWAG = Task(
    name="hellaswag",
    kind="choice",
    about="the ending of a scene or an instruction",
    paper="Zellers et al. 2019, arXiv 1905.07830",
    licence="MIT",
    prompts={"lm_eval": _document},
    files=(DataFile(("hellaswag/val.jsonl", "hellaswag/hellaswag_val.jsonl"), _ORIGIN),),
    shot_files=(DataFile(("hellaswag/train.jsonl", "hellaswag/hellaswag_train.jsonl"), _ORIGIN),),
)
