"""Documents of text files, and pages: a file, a line, a paragraph, what stands between markers, or passages.

A text file is one document unless it says otherwise: `<|endoftext|>` parts documents wherever it stands, as in
TinyStories. A text that stands for a whole corpus (one of few files, or longer than a document may be) is cut between
paragraphs into passages, since what is held out, compared and drawn are documents.
"""

import codecs
import re
from collections import Counter
from collections.abc import Iterator

from megalith.curation.reading.document import MAXIMUM_BYTES, OTHER_ENCODING, REPLACED, Document, Part, Source
from megalith.curation.reading.encodings import UTF8, encoding_of
from megalith.curation.reading.how import AUTO, How
from megalith.curation.reading.lines import sample_of, whole
from megalith.curation.reading.opening import open_file
from megalith.curation.reading.remote import name_of

MARKER = "<|endoftext|>"
SEPARATORS = {"line": re.compile(r"\n"), "blank_line": re.compile(r"\n[ \t]*\n\s*")}
_PIECE_BYTES = 1 << 20
_PARAGRAPH = re.compile(r"\n[ \t]*\n")
_SENTENCE = re.compile(r"[.!?。！？।]\s+")


def read_text(path: Source, counts: Counter[str], part: Part, how: How) -> Iterator[Document]:
    """The documents of a text file, as `how.text_separator` parts them."""
    name = name_of(path)
    separator = how.text_separator
    texts = _texts(path, counts)
    if separator == AUTO:
        found, separator = _auto(texts, counts, how)
    elif separator == "file":
        found = _bounded(texts, counts)
    else:
        found = _parted(texts, SEPARATORS.get(separator) or re.compile(re.escape(separator)), counts)
    several = separator not in (AUTO, "file")
    for number, (text, other) in enumerate(found):
        counts["records"] += 1
        if not text.strip():
            counts["no_text"] += 1
            continue
        if other:
            counts[OTHER_ENCODING] += 1
        elif "\ufffd" in text:
            counts[REPLACED] += 1
        yield Document(url=None, text=text, source_id=f"{name}#{number}" if several else name)


def read_html(path: Source, counts: Counter[str], part: Part, how: How) -> Iterator[Document]:
    """The page that a file is."""
    counts["records"] += 1
    content = bytearray()
    lost = Counter[str]()
    with open_file(path) as file:
        for piece in whole(iter(lambda: file.read(_PIECE_BYTES), b""), lost):
            content += piece
            if len(content) > MAXIMUM_BYTES:
                counts["too_long"] += 1
                return
    counts.update(lost)
    if content.strip():
        yield Document(url=None, html=bytes(content), source_id=name_of(path))
    else:
        counts["no_text"] += 1


Texts = Iterator[tuple[str, bool]]
"""Texts, each with whether it had to be decoded as something that is not UTF-8."""


def _texts(path: Source, counts: Counter[str]) -> Texts:
    """The file's content, a piece at a time, with plain line ends and without a byte order mark."""
    encoding = encoding_of(sample_of(path))
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    other = encoding != UTF8
    first = True
    with open_file(path) as file:
        for piece in whole(iter(lambda: file.read(_PIECE_BYTES), b""), counts):
            text = decoder.decode(piece)
            yield text.removeprefix("\ufeff") if first else text, other
            first = False
    if tail := decoder.decode(b"", final=True):
        yield tail, other


def _auto(texts: Texts, counts: Counter[str], how: How) -> tuple[Texts, str]:
    """The texts between markers if there are some, else passages of what stands for a corpus, else the whole."""
    held: list[tuple[str, bool]] = []
    characters = 0
    marked = False
    for text, other in texts:
        held.append((text, other))
        characters += len(text)
        marked = marked or MARKER in text
        if characters > MAXIMUM_BYTES:
            break
    rest = _chained(held, texts)
    if marked:
        return _parted(rest, re.compile(re.escape(MARKER)), counts), MARKER
    corpus = characters > (2 * how.passage_characters if how.few else MAXIMUM_BYTES)
    if how.passage_characters and corpus:
        return _passages(rest, how.passage_characters), "passage"
    return _bounded(rest, counts), AUTO


def _chained(held: list[tuple[str, bool]], rest: Texts) -> Texts:
    while held:
        yield held.pop(0)
    yield from rest


def _bounded(texts: Texts, counts: Counter[str]) -> Texts:
    """All of it as one text, unless it is too long."""
    pieces: list[str] = []
    characters, other = 0, False
    for text, other in texts:  # noqa: B007 - what it is at the end is told below
        pieces.append(text)
        characters += len(text)
        if characters > MAXIMUM_BYTES:
            counts.update(records=1, too_long=1)
            return
    yield "".join(pieces), other


def _parted(texts: Texts, separator: re.Pattern[str], counts: Counter[str]) -> Texts:
    """The texts between separators, blank ones left out."""
    held, other = "", False
    passing = False
    for text, other in texts:
        held = (held + text).replace("\r\n", "\n")
        *parts, held = separator.split(held)
        for part in parts:
            if not passing and part.strip():
                yield part, other
            passing = False
        if passing or len(held) > MAXIMUM_BYTES:
            if not passing:
                counts.update(records=1, too_long=1)
            held, passing = held[-64:], True
    if not passing and held.strip():
        yield held, other


def _passages(texts: Texts, characters: int) -> Texts:
    """Passages of about so many characters, cut between paragraphs, or else lines, sentences or words."""
    held, other = "", False
    for text, other in texts:
        held = (held + text).replace("\r\n", "\n")
        start = 0
        while len(held) - start > 2 * characters:
            end = _cut(held, start + characters // 2, start + 3 * characters // 2, start + characters)
            if held[start:end].strip():
                yield held[start:end], other
            start = end
        held = held[start:]
    if held.strip():
        yield held, other


def _cut(text: str, first: int, last: int, wanted: int) -> int:
    """The place between `first` and `last` where a text is best cut: nearest to `wanted` among the best kind."""
    for pattern in (_PARAGRAPH, re.compile(r"\n"), _SENTENCE, re.compile(r"\s")):
        ends = [found.end() for found in pattern.finditer(text, first, last)]
        if ends:
            return min(ends, key=lambda end: abs(end - wanted))
    return wanted
