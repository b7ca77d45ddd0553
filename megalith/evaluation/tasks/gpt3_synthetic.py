"""GPT-3's own files of arithmetic (13 × 2,000) and word scrambling (5 × 10,000), §3.9.1 and §3.9.2.

The files put two newlines before a question of arithmetic and one before a scrambled word: that is the separator.
"""

from megalith.evaluation.answers import first_line
from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record
from megalith.evaluation.prompts import generated
from megalith.evaluation.task import Task

_DIGITS = ("two", "three", "four", "five", "six")
_ARITHMETIC = (
    *(f"{digits}_digit_addition" for digits in _DIGITS),
    *(f"{digits}_digit_subtraction" for digits in _DIGITS),
    "two_digit_multiplication",
    "single_digit_three_ops",
    "sum_of_digits",
)
_SCRAMBLING = (
    "cycle_letters_in_word", "mid_word_1_anagrams", "mid_word_2_anagrams", "random_insertion_in_word", "reversed_words"
)  # fmt: skip


def _document(record: Record) -> Document:
    return generated(record.text("context").lstrip("\n"), (record.text("completion").strip(),))


def _task(name: str, about: str, separator: str) -> Task:
    return Task(
        name=name,
        kind="generate",
        about=about,
        paper="Brown et al. 2020, arXiv 2005.14165",
        licence="not stated",
        prompts={"gpt3": _document},
        files=(DataFile((f"gpt3_synthetic/{name}.jsonl",), "github.com/openai/gpt-3, data/"),),
        separator=separator,
        extract=first_line,
    )


GPT3_SYNTHETIC = (
    *(_task(name, f"GPT-3's arithmetic: {name.replace('_', ' ')}", "\n\n") for name in _ARITHMETIC),
    *(_task(name, f"GPT-3's scrambled words: {name.replace('_', ' ')}", "\n") for name in _SCRAMBLING),
)
