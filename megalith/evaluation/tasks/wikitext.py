"""WikiText-2 and -103: perplexity per word, by the protocol of Megatron-LM 2019.

The whole test file is one text, put back from tokens to plain text; its nats are divided by the number of words of the
file as it was, less the first: 245,566 − 1, where single spaces part words. (245,569 in Merity et al. 2016 are 241,211
words and an end on each of 4,358 lines; 245,566 is what is left without the white space around the file.)
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from megalith.evaluation.document import Document
from megalith.evaluation.formats import DataFile, Record, read_plain_text
from megalith.evaluation.task import Task

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


def _whole(paths: Sequence[Path]) -> Iterator[Record]:
    tokens = original(paths[0]).strip()
    words = tokens.count(" ") + 1  # they are parted by single spaces
    yield Record({"text": detokenised(tokens), "words": str(words)}, str(paths[0]), 0)


def _document(record: Record) -> Document:
    return Document(id="test", prompt=record.text("text"), fields={"words": record.text("words")})


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
        records=_whole,
    )
    for size in (2, 103)
)
