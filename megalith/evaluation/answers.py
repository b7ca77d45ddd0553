"""How generated answers are read and compared: the official normalisations of the question-answering sets."""

import re
import string
import unicodedata

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_QUOTES = "‘’´`"


def first_line(text: str) -> str:
    """The first line that is not empty."""
    return next((line.strip() for line in text.split("\n") if line.strip()), "")


def open_domain(text: str) -> str:
    """The normalisation of SQuAD and Natural Questions: lower case, no punctuation, no articles, single spaces."""
    text = unicodedata.normalize("NFD", text).lower()
    text = "".join(letter for letter in text if letter not in string.punctuation)
    return " ".join(_ARTICLES.sub(" ", text).split())


def trivia(text: str) -> str:
    """TriviaQA's: as `open_domain`, but punctuation parts words."""
    marks = set(string.punctuation + _QUOTES)
    text = "".join(" " if letter in marks else letter for letter in text.replace("_", " ").lower())
    return " ".join(_ARTICLES.sub(" ", text).split())


def final_number(text: str) -> str:
    """The number after "####" in a worked solution of GSM8K, as its authors write it; empty without one."""
    found = re.search(r"####\s*(-?[0-9.,]+)", text)
    return plain_number(found.group(1)) if found else ""


def plain_number(text: str) -> str:
    """A number without its thousands' commas, its dollar sign and a full stop after it."""
    return text.strip().replace(",", "").replace("$", "").removesuffix(".")


def after_the_answer_is(text: str) -> str:
    """The conclusion of a chain of thought: the rest of the line after "the answer is", without its full stop."""
    found = re.search(r"the answer is (.*)", text)
    return found.group(1).strip().removesuffix(".") if found else ""
