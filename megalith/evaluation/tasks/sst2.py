"""SST-2: whether a sentence of a film review is positive."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, json_lines, table_rows
from megalith.evaluation.prompts import classes, truth
from megalith.evaluation.task import Task


def _records(paths: Sequence[Path]) -> Iterator[Record]:
    return table_rows(paths[0]) if ".tsv" in paths[0].suffixes else json_lines(paths[0])


def _document(record: Record) -> Document:
    prompt = f"{record.text('sentence')}\nQuestion: Is this sentence positive or negative?\nAnswer:"
    return classes(prompt, (" negative", " positive"), truth(record, "label"))


SST2 = Task(
    name="sst2",
    kind="choice",
    about="the sentiment of a sentence from a film review",
    paper="Socher et al. 2013; GLUE",
    licence="not stated",
    prompts={"lm_eval": _document},
    files=(DataFile(("sst2/dev.tsv", "SST-2/dev.tsv", "sst2/validation.jsonl"), "dl.fbaipublicfiles.com/glue/data"),),
    shot_files=(DataFile(("sst2/train.tsv", "SST-2/train.tsv"), "dl.fbaipublicfiles.com/glue/data"),),
    records=_records,
)
