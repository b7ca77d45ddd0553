"""Questions answered from memory: TriviaQA, Natural Questions, WebQuestions and Jeopardy.

The generated line must equal an accepted answer after the set's official normalisation.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from megalith.errors import InputError
from megalith.evaluation.answers import first_line, open_domain, trivia
from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, json_lines, read_plain_text
from megalith.evaluation.prompts import generated
from megalith.evaluation.task import Task
from megalith.input_files import parse_json


def _json_or_lines(paths: Sequence[Path]) -> Iterator[Record]:
    """JSON lines, or one JSON text: a list, or an object with the list under `Data` (TriviaQA)."""
    path = paths[0]
    if ".jsonl" in path.suffixes:
        yield from json_lines(path)
        return
    value = parse_json(read_plain_text(path), where=str(path))
    found = value.get("Data") if isinstance(value, dict) else value
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InputError("a list of questions is wanted here.", where=str(path))
    for number, one in enumerate(found):
        yield Record(one, f"{path}, question {number + 1}", number)


def _triviaqa(record: Record, asked: str) -> Document:
    official = "Question" in record
    answer = record["Answer" if official else "answer"]
    names = ("Value", "Aliases", "NormalizedAliases") if official else ("value", "aliases", "normalized_aliases")
    value, aliases, normalised = (answer.get(name) or [] for name in names)
    accepted = dict.fromkeys([value, *aliases, *normalised])
    question = record.text("Question" if official else "question")
    return generated(
        asked.format(question), list(accepted), id=str(record["QuestionId" if official else "question_id"])
    )


def _triviaqa_gpt3(record: Record) -> Document:
    return _triviaqa(record, "Q: {}\nA:")


def _triviaqa_lm_eval(record: Record) -> Document:
    return _triviaqa(record, "Question: {}?\nAnswer:")


def _nq_lm_eval(record: Record) -> Document:
    asked = f"Q: {record.text('question')}?\nA:"
    return generated(asked, record.texts("answer"), preamble="Answer these questions:\n\n")


def _nq_gpt3(record: Record) -> Document:
    return generated(f"Q: {record.text('question')}?\n\nA:", record.texts("answer"))


def _webquestions(record: Record, asked: str) -> Document:
    if "targetValue" in record:  # the official file: (list (description "Padmé Amidala") (description Han))
        found = re.findall(r'\(description (?:"(.*?)"|(.*?))\)', record.text("targetValue"))
        return generated(asked.format(record.text("utterance")), [quoted or plain for quoted, plain in found])
    return generated(asked.format(record.text("qText")), record.texts("answers"), id=record.text("qId"))


def _webquestions_lm_eval(record: Record) -> Document:
    return _webquestions(record, "Question: {}\nAnswer:")


def _webquestions_gpt3(record: Record) -> Document:
    return _webquestions(record, "Q: {}\n\nA:")


def _jeopardy(record: Record) -> Document:
    return generated(record.text("query"), (record.text("answer"),), fields={"category": record.text("category")})


_TRIVIAQA, _NQ = "nlp.cs.washington.edu/triviaqa", "github.com/google-research-datasets/natural-questions, nq_open"
_WEB = "github.com/brmson/dataset-factoid-webquestions, or nlp.stanford.edu/software/sempre"

TRIVIAQA = Task(
    name="triviaqa",
    kind="generate",
    about="questions of quizzes, closed book",
    paper="Joshi et al. 2017, arXiv 1705.03551",
    licence="Apache-2.0; questions from trivia sites",
    prompts={"gpt3": _triviaqa_gpt3, "lm_eval": _triviaqa_lm_eval},
    files=(
        DataFile(
            (
                "triviaqa/unfiltered-web-dev.json",
                "triviaqa/wikipedia-dev.jsonl",
                "triviaqa/qa/wikipedia-dev.json",
                "triviaqa/wikipedia-dev.json",
            ),
            _TRIVIAQA,
        ),
    ),
    shot_files=(DataFile(("triviaqa/unfiltered-web-train.json",), _TRIVIAQA),),
    records=_json_or_lines,
    extract=first_line,
    normalise=trivia,
)
NQ_OPEN = Task(
    name="nq_open",
    kind="generate",
    about="questions that people asked a search engine, closed book",
    paper="Kwiatkowski et al. 2019; Lee et al. 2019, arXiv 1906.00300",
    licence="CC BY-SA 3.0",
    prompts={"gpt3": _nq_gpt3, "lm_eval": _nq_lm_eval},
    files=(DataFile(("nq_open/NQ-open.dev.jsonl",), _NQ),),
    shot_files=(DataFile(("nq_open/NQ-open.train.jsonl",), _NQ),),
    extract=first_line,
    normalise=open_domain,
)
WEBQUESTIONS = Task(
    name="webquestions",
    kind="generate",
    about="questions about entities of Freebase, closed book",
    paper="Berant et al. 2013",
    licence="CC BY 4.0",
    prompts={"gpt3": _webquestions_gpt3, "lm_eval": _webquestions_lm_eval},
    files=(DataFile(("webquestions/test.jsonl", "webquestions/webquestions.examples.test.json"), _WEB),),
    shot_files=(DataFile(("webquestions/trainmodel.jsonl", "webquestions/webquestions.examples.train.json"), _WEB),),
    records=_json_or_lines,
    extract=first_line,
    normalise=open_domain,
)
JEOPARDY = Task(
    name="jeopardy",
    kind="generate",
    about="clues of a quiz show by category, closed book",
    paper="MosaicML's evaluation gauntlet",
    licence="not stated",
    prompts={"gauntlet": _jeopardy},
    files=(DataFile(("jeopardy/jeopardy.jsonl", "jeopardy/jeopardy_all.jsonl"), "github.com/mosaicml/llm-foundry"),),
    extract=first_line,
    normalise=open_domain,
    by=("category",),
)
CLOSED_BOOK = (TRIVIAQA, NQ_OPEN, WEBQUESTIONS, JEOPARDY)
