"""The inputs: JSON lines of real text with planted near-copies, and a WARC of real pages."""

import io
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import zstandard
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

CORPORA = (
    ("wikipedia_en_2015", "articles.jsonl.zst"),
    ("wikinews_en", "articles.jsonl.zst"),
    ("arxiv_abstracts", "abstracts.jsonl.zst"),
    ("peps_eips", "docs.jsonl.zst"),
)
PAGES = ("html_trafilatura", "html_article_benchmark", "html_readability")
COPIES = 0.05
"""So large a part of the documents are copies of another with a few words changed."""


def write_text(path: Path, corpora: Path, megabytes: float) -> int:
    """JSON lines of as much text, the corpora in turn; how many bytes of text."""
    draws = random.Random(0)
    sources = [_texts(corpora / folder / name) for folder, name in CORPORA]
    written = number = 0
    with path.open("w", encoding="utf-8") as file:
        while sources and written < megabytes * 1e6:
            turn = number % len(sources)
            text = next(sources[turn], None)
            if text is None:  # this one has been read to its end
                del sources[turn]
                continue
            versions = [text, _edited(draws, text)] if draws.random() < COPIES else [text]
            for version in versions:
                file.write(json.dumps({"id": str(number), "url": f"http://localhost/{number}", "text": version}) + "\n")
                number += 1
                written += len(version.encode())
    return written


def write_warc(path: Path, corpora: Path) -> int:
    """A gzipped WARC of all pages; how many bytes of HTML."""
    size = 0
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        for name, page in _pages(corpora):
            headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
            record = writer.create_warc_record(
                f"http://localhost/{name}", "response", payload=io.BytesIO(page), http_headers=headers
            )
            writer.write_record(record)
            size += len(page)
    return size


def _pages(corpora: Path) -> Iterator[tuple[str, bytes]]:
    for folder in PAGES:
        with (
            (corpora / folder / "pages.tar.zst").open("rb") as file,
            tarfile.open(fileobj=_open(file), mode="r|") as tar,
        ):
            for member in tar:
                content = tar.extractfile(member)
                if content is not None:
                    yield f"{folder}/{member.name}", content.read()


def _texts(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for line in io.TextIOWrapper(_open(file), encoding="utf-8"):
            yield json.loads(line)["text"]


def _open(file: IO[bytes]) -> zstandard.ZstdDecompressionReader:
    return zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file)


def _edited(draws: random.Random, text: str) -> str:
    words = text.split(" ")
    for _ in range(max(1, len(words) // 100)):
        words[draws.randrange(len(words))] = "edited"
    return " ".join(words)
