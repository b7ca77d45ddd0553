"""The small sets of SuperGLUE: RTE, CB, WiC, WSC and COPA."""

import re

from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record
from megalith.evaluation.prompts import choices, classes, truth
from megalith.evaluation.task import Task

_PAPER = "Wang et al. 2019, arXiv 1905.00537"
_RTE = ("entailment", "not_entailment")
_CB = ("entailment", "contradiction", "neutral")


def _files(name: str) -> tuple[tuple[DataFile, ...], tuple[DataFile, ...]]:
    origin = f"dl.fbaipublicfiles.com/glue/superglue/data/v2/{name}.zip"
    test = (f"superglue_small/{name}_val.jsonl", f"{name}/val.jsonl", f"{name.lower()}/validation.jsonl")
    return (DataFile(test, origin),), (DataFile((f"{name}/train.jsonl",), origin),)


def _id(record: Record) -> str:
    return str(record["idx"]) if "idx" in record else ""


def _rte(record: Record) -> Document:
    prompt = f"{record.text('premise')}\nQuestion: {record.text('hypothesis')} True or False?\nAnswer:"
    return classes(prompt, (" True", " False"), record.place("label", _RTE), id=_id(record))


def _rte_gpt3(record: Record) -> Document:
    prompt = f"{record.text('premise')}\nquestion: {record.text('hypothesis')} True or False?\nanswer:"
    return classes(prompt, (" True", " False"), record.place("label", _RTE), id=_id(record))


def _cb(record: Record) -> Document:
    prompt = f"{record.text('premise')}\nQuestion: {record.text('hypothesis')}. True, False, or Neither?\nAnswer:"
    return classes(prompt, (" True", " False", " Neither"), record.place("label", _CB), id=_id(record))


def _cb_gpt3(record: Record) -> Document:
    prompt = f"{record.text('premise')}\nquestion: {record.text('hypothesis')}. true, false, or neither?\nanswer:"
    return classes(prompt, (" true", " false", " neither"), record.place("label", _CB), id=_id(record))


def _wic_in(record: Record, question: str, answer: str) -> Document:
    first = record.text("sentence1")
    word = first[int(record["start1"]) : int(record["end1"])]  # as it is inflected there
    prompt = (
        f"Sentence 1: {first}\nSentence 2: {record.text('sentence2')}\n"
        f"{question}: Is the word '{word}' used in the same way in the two sentences above?\n{answer}:"
    )
    return classes(prompt, (" no", " yes"), truth(record, "label"), id=_id(record), group=record.text("word"))


def _wic(record: Record) -> Document:
    return _wic_in(record, "Question", "Answer")


def _wic_gpt3(record: Record) -> Document:
    return _wic_in(record, "question", "answer")


def _wsc(record: Record) -> Document:
    target, text = record["target"], record.text("text")
    noun, pronoun = str(target["span1_text"]), str(target["span2_text"])
    before = " ".join(text.split()[: int(target["span2_index"])])
    after = text[len(before) + len(pronoun) + 1 :]
    passage = _joined(f"{before} *{pronoun}*{after}")
    prompt = (
        f"Passage: {passage}\nQuestion: In the passage above, does the pronoun "
        f'"*{pronoun}*" refer to "*{noun}*"?\nAnswer:'
    )
    return classes(prompt, (" no", " yes"), truth(record, "label"), id=_id(record), group=text)


def _joined(text: str) -> str:
    """The text without the spaces that a tokenizer put around its marks."""
    for spaced, closed in ((" n't", "n't"), (" )", ")"), ("( ", "("), ('" ', '"'), (' "', '"')):
        text = text.replace(spaced, closed)
    return re.sub(r" (['.,])", r"\1", text)


def _copa(record: Record) -> Document:
    joint = ("because", "therefore")[record.place("question", ("cause", "effect"))]
    options = [record.text(name) for name in ("choice1", "choice2")]
    return choices(
        f"{record.text('premise').strip()[:-1]} {joint}",
        [f" {option[:1].lower()}{option[1:]}" for option in options],
        record.place("label", (0, 1)),
        id=_id(record),
        fields={"question": record.text("question")},
    )


RTE = Task(
    name="rte",
    kind="choice",
    about="inference in two classes",
    paper=_PAPER,
    licence="not stated; text of news and Wikipedia",
    prompts={"lm_eval": _rte, "gpt3": _rte_gpt3},
    files=_files("RTE")[0],
    shot_files=_files("RTE")[1],
)
CB = Task(
    name="cb",
    kind="choice",
    about="inference in three classes: does the speaker commit to a clause?",
    paper=_PAPER,
    licence="not stated",
    prompts={"lm_eval": _cb, "gpt3": _cb_gpt3},
    files=_files("CB")[0],
    shot_files=_files("CB")[1],
)
WIC = Task(
    name="wic",
    kind="choice",
    about="whether a word has one sense in two sentences",
    paper=_PAPER,
    licence="CC BY-NC 4.0",
    prompts={"lm_eval": _wic, "gpt3": _wic_gpt3},
    files=_files("WiC")[0],
    shot_files=_files("WiC")[1],
)
WSC = Task(
    name="wsc",
    kind="choice",
    about="whether a pronoun refers to a noun",
    paper=_PAPER,
    licence="CC BY 4.0",
    prompts={"lm_eval": _wsc},
    files=_files("WSC")[0],
    shot_files=_files("WSC")[1],
)
COPA = Task(
    name="copa",
    kind="choice",
    about="the likelier cause or effect",
    paper="Roemmele et al. 2011",
    licence="BSD 2-clause",
    prompts={"lm_eval": _copa},
    files=_files("COPA")[0],
    shot_files=_files("COPA")[1],
)
SUPERGLUE = (RTE, CB, WIC, WSC, COPA)
