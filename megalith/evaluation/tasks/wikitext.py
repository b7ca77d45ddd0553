"""WikiText-2 and -103: perplexity per word, by the protocol of Megatron-LM 2019.

The whole test file is one text, put back from tokens to plain text; its nats are divided by the number of words of the
file as it was, which are 245,566 where single spaces part them. (245,569 in Merity et al. 2016: 241,211 words and an
end of line on each of 4,358 lines.) The articles are the independent units of the error; each is scored with the text
before it as context.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, read_plain_text
from megalith.evaluation.task import Task

_TITLE = re.compile(r"^ ?= [^=\n]+ = ?$", re.MULTILINE)
_PLAIN = (
    ("s '", "s'"), (" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."), (" : ", ": "), (" ; ", "; "), (" . ", ". "),
    (" ! ", "! "), (" ? ", "? "), (" , ", ", "),
)  # fmt: skip
_PAIRED = ((r"\(", r"\)"), (r"\[", r"\]"), ("{", "}"), ('"', '"'), ("'", "'"))
_REST = (
    ("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (" ° ", "°"), (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "),
    (" 's", "'s"),
)  # fmt: skip


def detokenised(text: str) -> str:
    """Plain text from WikiText's tokens, by Megatron-LM's substitutions in their order."""
    for spaced, plain in _PLAIN:
        text = text.replace(spaced, plain)
    for opening, closing in _PAIRED:
        inner = rf"[^{closing}]*?"
        text = re.sub(rf"{opening}\s*({inner})\s*{closing}", _closed(opening, closing), text)
    for spaced, plain in _REST:
        text = text.replace(spaced, plain)
    return text


def original(path: Path) -> str:
    """The test file's text; a copy that quotes each line as a cell of a table is put back."""
    text = read_plain_text(path)
    if not text.startswith('"'):
        return text
    return "".join(row[0] if row and row[0] else " \n" for row in csv.reader(io.StringIO(text, newline="")))


def _closed(opening: str, closing: str) -> str:
    return rf"{opening[-1]}\1{closing[-1]}"


def _articles(paths: Sequence[Path]) -> Iterator[Record]:
    """The articles in order. One whose title the substitutions have changed belongs to the article before it."""
    tokens = original(paths[0]).strip()
    text = detokenised(tokens)
    cuts = [(0, 0)]  # in the tokens, in the text
    for title in _TITLE.finditer(tokens):
        plain = re.escape(detokenised(title.group()).strip())
        found = re.compile(f"(?<!=){plain}(?!=)").search(text, cuts[-1][1] + 1)
        if found and title.start() > 0:
            cuts.append((title.start(), found.start()))
    cuts.append((len(tokens), len(text)))
    for number, ((begin, start), (end, stop)) in enumerate(pairwise(cuts)):
        words = tokens.count(" ", begin, end) + (end == len(tokens))  # spaces part words: one more than there are
        yield Record({"text": text[start:stop], "words": words}, f"{paths[0]}, article {number + 1}", number)


def _document(record: Record) -> Document:
    return Document(id="", prompt=record.text("text"), fields={"words": str(record["words"])})


WIKITEXT = tuple(
    Task(
        name=f"wikitext{size}",
        kind="perplexity",
        about=f"perplexity per word of the test file of WikiText-{size}",
        paper="Merity et al. 2016, arXiv 1609.07843; Shoeybi et al. 2019, arXiv 1909.08053",
        licence="CC BY-SA 3.0",
        prompts={"megatron": _document},
        files=(
            DataFile(
                (f"wikitext{size}/wiki.test.tokens", f"wikitext-{size}/wiki.test.tokens", f"wikitext{size}/test.txt"),
                f"the release wikitext-{size}-v1",
            ),
        ),
        records=_articles,
    )
    for size in (2, 103)
)
