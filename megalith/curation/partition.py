"""One partition of the `documents` artifact: a unit read, extracted, cleaned, looked at and signed.

read → URLs → extract and clean → language → signals → fingerprint → MinHash, some megabytes of documents at a time.
"""

import functools
import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from megalith.artifacts import whole
from megalith.curation.corpus.read_units import Unit
from megalith.curation.engine import Task
from megalith.curation.reading import Document, How, read_documents
from megalith.curation.steps import dedup, heuristics, language, urls
from megalith.curation.steps.c4_lines import cut_lines
from megalith.curation.steps.dedup import exact
from megalith.curation.steps.extract import Extractor
from megalith.curation.steps.prepare import NO_LINE, Preparer, Raw
from megalith.recipe import CleanConfig, MinHashConfig, UrlConfig

BATCH_BYTES = 4_000_000
"""Bytes of documents held at a time, and of one row group."""
DOCUMENTS = "documents"
"""Among the counts of a piece, how many documents it gave."""
SIGNAL = "signal."
"""Prefix of the names of signal columns."""
FIXED = pa.schema(
    [
        ("id", pa.binary(16)),
        ("url", pa.large_string()),
        ("copy", pa.uint64()),
        ("text", pa.large_string()),
        ("bytes", pa.uint32()),
        ("read_bytes", pa.uint32()),
        ("is_html", pa.bool_()),
        ("refused", pa.string()),
        ("languages", pa.list_(pa.struct([("code", pa.string()), ("share", pa.float64())]))),
        ("fingerprint", pa.binary(16)),
        ("source_id", pa.large_string()),
        ("metadata", pa.large_string()),
    ]
)
"""The columns beside the signals. `copy` tells documents of one text apart, by their URLs; `refused` is why a document
has no text."""


@dataclass(frozen=True)
class MapSettings:
    """The settings on which a partition depends, beside its unit."""

    extractor: Extractor
    minhash: MinHashConfig
    urls: UrlConfig
    seconds_per_document: float
    clean: CleanConfig
    language_model: Path | None = None
    how: tuple[How, ...] = ()
    """How the files of each data set are read."""


@dataclass(frozen=True)
class MapUnit:
    """Makes the partition of a unit, unless it stands."""

    place: str
    settings: MapSettings

    def __call__(self, task: Task) -> Mapping[str, Any]:
        unit = Unit.of(task)
        place = Path(self.place)
        mark = place / "logs" / "units" / f"{unit.number:05d}.json"
        if mark.is_file():
            told: dict[str, Any] = json.loads(mark.read_text())
            return told
        told = _map(unit, place, self.settings)
        with whole(mark) as path:
            path.write_text(json.dumps(told))
        return told


def _map(unit: Unit, place: Path, settings: MapSettings) -> dict[str, Any]:
    name = f"{unit.number:05d}"
    of_piece: list[Counter[str]] = [Counter() for _ in unit.pieces]
    how = settings.how[unit.dataset] if settings.how else How()
    cut: Counter[str] = Counter()
    clock = Clock()
    keys: list[Any] = []
    documents = 0
    with (
        whole(place / "text" / f"{name}.parquet") as text_path,
        whole(place / "signatures" / f"{name}.u32") as signature_path,
        whole(place / "bands" / f"{name}.u64") as band_path,
    ):
        writer = None
        with signature_path.open("wb") as signature_file:
            try:
                for batch in _batches(unit, how, of_piece, clock):
                    table, signed = _judge(batch, settings, clock, cut)
                    writer = writer or pq.ParquetWriter(text_path, table.schema, compression="zstd")
                    writer.write_table(table)
                    signature_file.write(signed)
                    keys.append(dedup.band_keys(signed, settings.minhash.bands, settings.minhash.rows))
                    documents += len(table)
                    clock("write")
            finally:
                if writer is not None:
                    writer.close()
        if writer is None:
            text_path.touch()
        band_path.write_bytes(np.concatenate(keys).T.tobytes() if keys else b"")
    return {
        "documents": documents,
        "of_piece": [dict(counts) for counts in of_piece],
        "lines_cut": dict(cut),
        "seconds": {step: round(value, 6) for step, value in clock.spent.items()},
    }


class Clock:
    """Adds up what each step took."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self._last = time.monotonic()

    def __call__(self, step: str) -> None:
        """All time since the last call was spent on `step`."""
        now = time.monotonic()
        self.spent[step] += now - self._last
        self._last = now


def _batches(unit: Unit, how: How, of_piece: list[Counter[str]], clock: Clock) -> Iterator[list[tuple[Document, int]]]:
    """The documents of a unit with their sizes as read, some megabytes at a time."""
    held: list[tuple[Document, int]] = []
    held_bytes = 0
    for counts, piece in zip(of_piece, unit.pieces, strict=True):
        for document in read_documents(piece.path, counts, piece.part, how):
            text = None if document.text is None else _valid(document.text)
            url = None if document.url is None else _valid(document.url)
            size = len(document.html) if document.html is not None else len((text or "").encode())
            identity = None if document.source_id is None else _valid(document.source_id)
            beside = None if document.metadata is None else _valid(document.metadata)
            held.append((document._replace(text=text, url=url, source_id=identity, metadata=beside), size))
            held_bytes += size + len(url or "") + len(identity or "") + len(beside or "")
            counts[DOCUMENTS] += 1
            if held_bytes >= BATCH_BYTES:
                clock("read")
                yield held
                held, held_bytes = [], 0
    clock("read")
    if held:
        yield held


def _judge(
    batch: Sequence[tuple[Document, int]], settings: MapSettings, clock: Clock, cut: Counter[str]
) -> tuple[pa.Table, Any]:
    """The rows of a batch, and their signatures; lines that are cut are counted in `cut`."""
    addresses = pa.array([document.url for document, _ in batch], pa.large_string())
    rules = _rules(settings.urls)
    refused: list[str | None] = urls.reasons(addresses, rules).to_pylist() if rules else [None] * len(batch)
    clock("urls")
    wanted = [place for place, reason in enumerate(refused) if reason is None]
    prepare = _preparer(
        settings.extractor, settings.seconds_per_document, **settings.clean.model_dump(exclude={"c4_lines"})
    )
    texts = [""] * len(batch)
    for place, made in zip(wanted, prepare([_raw(batch[place][0]) for place in wanted]), strict=True):
        texts[place], refused[place] = made
        if settings.clean.c4_lines and made.text:
            texts[place] = cut_lines(made.text, cut)
            refused[place] = None if texts[place] else NO_LINE
    clock("extract")
    data = [text.encode() for text in texts]
    column = pa.array(texts, pa.large_string())
    judged = _identifier(settings.language_model)(column)
    found = [one.shares if text else {} for one, text in zip(judged, texts, strict=True)]
    clock("language")
    signals = heuristics.signal_table(column, [one.code for one in judged])
    clock("heuristics")
    fingerprints = [exact.fingerprint(text) for text in texts]
    clock("exact")
    minhash = settings.minhash
    signed = dedup.signatures(
        column,
        minhash.shingle_words,
        minhash.bands * minhash.rows,
        minhash.unspaced_characters,
        minhash.shingle_characters,
    )
    clock("minhash")
    fixed = [
        pa.array([hashlib.blake2b(text, digest_size=16).digest() for text in data], pa.binary(16)),
        addresses,
        pa.array([_copy(document.url) for document, _ in batch], pa.uint64()),
        column,
        pa.array(map(len, data), pa.uint32()),
        pa.array([size for _, size in batch], pa.uint32()),
        pa.array([document.html is not None for document, _ in batch], pa.bool_()),
        pa.array(refused, pa.string()),
        pa.array(
            [[{"code": code, "share": share} for code, share in shares.items()] for shares in found],
            FIXED.field("languages").type,
        ),
        pa.array(fingerprints, pa.binary(16)),
        pa.array([document.source_id for document, _ in batch], pa.large_string()),
        pa.array([document.metadata for document, _ in batch], pa.large_string()),
    ]
    named = [f"{SIGNAL}{name}" for name in signals.column_names]
    table = pa.Table.from_arrays([*fixed, *signals.columns], [*FIXED.names, *named])
    return table, signed


_identifier = functools.lru_cache(maxsize=1)(language.identifier)
_rules = functools.lru_cache(maxsize=1)(urls.read_rules)
_preparer = functools.lru_cache(maxsize=1)(Preparer)


def _raw(document: Document) -> Raw:
    return Raw(document.text or "" if document.html is None else document.html, document.charset)


def _copy(url: str | None) -> int:
    return 0 if url is None else int.from_bytes(hashlib.blake2b(url.encode(), digest_size=8).digest(), "big") | 1


def _valid(text: str) -> str:
    """The text with surrogates (JSON can name them one by one) joined in pairs, and replaced where one is alone."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
