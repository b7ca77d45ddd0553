"""LAMBADA: the last word of a passage, which only the whole passage tells.

Strict: every token of the word must be the model's first choice. The word is what follows the last space, as in
Megatron-LM and lm-eval. `gpt3` is the fill-in-the-blank form of GPT-3 §3.1.1, which is meant for solved examples.
"""

from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record
from megalith.evaluation.prompts import last_word
from megalith.evaluation.task import Task


def _plain(record: Record) -> Document:
    context, _, word = record.text("text").rpartition(" ")
    return last_word(context, f" {word}")


def _blank(record: Record) -> Document:
    context, _, word = record.text("text").rpartition(" ")
    return last_word(f"{context} ____. ->", f" {word}", preamble="Fill in blank:\n\n")


LAMBADA = Task(
    name="lambada",
    kind="last_word",
    about="the last word of a passage from a novel (OpenAI's detokenised text)",
    paper="Paperno et al. 2016, arXiv 1606.06031",
    licence="CC BY 4.0",
    prompts={"lm_eval": _plain, "gpt3": _blank},
    files=(
        DataFile(
            ("lambada/lambada_test.jsonl", "lambada/lambada_test_en.jsonl"),
            "openaipublic.blob.core.windows.net/gpt-2/data/lambada_test.jsonl",
        ),
    ),
)
