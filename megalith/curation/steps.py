"""The steps as Daft plans: each takes the documents and gives each a reason where it is dropped."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from megalith.curation import exact, heuristics, language, minhash
from megalith.curation.clean import clean
from megalith.curation.decontaminate import (
    Ngrams,
    characters,
    cut,
    match_spans,
    occurrences,
    task_ngrams,
    union,
    without,
)
from megalith.curation.engine import daft
from megalith.curation.extract import extract
from megalith.curation.held_out import held_out
from megalith.recipe import CurateConfig, DecontaminateConfig, HeuristicsConfig, MinHashConfig

DataFrame = daft.DataFrame
BATCH_DOCUMENTS = 64

col = daft.col
String, Integer = daft.DataType.string(), daft.DataType.int64()
Binary, Boolean = daft.DataType.binary(), daft.DataType.bool()


def extract_text(documents: DataFrame, config: CurateConfig) -> DataFrame:
    """Text from HTML, cleaned; its id and its size in bytes. A document that has text already is cleaned alone."""

    def one(html: bytes | None, charset: str | None, text: str | None) -> dict[str, Any]:
        whole = clean(extract(html, config.extractor, charset) if html is not None else text or "")
        data = whole.encode()
        name = hashlib.blake2b(data, digest_size=16).hexdigest()
        return {"id": name, "text": whole, "bytes": len(data), "reason": None if whole else "no text"}

    made = _each(one, id=String, text=String, bytes=Integer, reason=String)
    return documents.select("row", "priority", "url", "source", made(col("html"), col("charset"), col("text")))


def judge_language(documents: DataFrame, config: CurateConfig) -> DataFrame:
    def one(text: str) -> dict[str, Any]:
        found = language.identify(text)
        reason = language.reason_to_drop(found, config.languages, config.minimum_language_share)
        return {"language": found.code, "reason": reason}

    return documents.select("*", _each(one, language=String, reason=String)(col("text")))


def judge_heuristics(documents: DataFrame, rules: HeuristicsConfig) -> DataFrame:
    def one(text: str) -> dict[str, Any]:
        return {"reason": heuristics.reason_to_drop(heuristics.signals(text), rules)}

    return documents.select("*", _each(one, reason=String)(col("text")))


def judge_exact_duplicates(documents: DataFrame) -> DataFrame:
    def one(text: str) -> dict[str, Any]:
        return {"fingerprint": exact.fingerprint(text)}

    marks = documents.select("row", "priority", "id", "url", _each(one, fingerprint=Binary)(col("text")))
    return _judged(documents, exact.find_duplicates(marks.to_arrow()))


def judge_near_duplicates(documents: DataFrame, config: MinHashConfig) -> DataFrame:
    hashes = config.bands * config.rows

    @daft.func.batch(return_dtype=Binary, batch_size=BATCH_DOCUMENTS, use_process=False)
    def signature(texts: daft.Series) -> list[bytes]:
        return [row.tobytes() for row in minhash.signatures(texts.to_arrow(), config.shingle_words, hashes)]

    signed = documents.select("row", "id", "url", "bytes", signature(col("text")).alias("signature")).to_arrow()
    found = minhash.find_near_duplicates(signed, config.bands, config.rows, config.minimum_jaccard)
    return _judged(documents, found)


def split(documents: DataFrame, share: float, seed: int) -> DataFrame:
    """Every document with its split, `train` or `validation`."""
    chosen = held_out(documents.select("id").to_pydict()["id"], share, seed)

    def one(name: str) -> dict[str, Any]:
        return {"split": "validation" if name in chosen else "train", "reason": None}

    return documents.select("*", _each(one, split=String, reason=String)(col("id")))


def decontaminate(
    documents: DataFrame, tasks: Mapping[str, Sequence[str]], config: DecontaminateConfig, facts: dict[str, Any]
) -> DataFrame:
    """The documents, those for training without what the tasks ask, in pieces where need be.

    `facts` takes the counts of what was cut. A document that is left in one piece keeps its id; pieces of one have
    it with -1, -2, … behind.
    """
    by_task = {task: task_ngrams(texts, config) for task, texts in sorted(tasks.items())}
    training = documents.where("split = 'train'")
    frequent = _frequent(training, union(by_task.values()), config.frequent)
    used = {task: without(held, frequent) for task, held in by_task.items()}
    wanted = union(used.values())

    @daft.func.batch(return_dtype=Boolean, batch_size=BATCH_DOCUMENTS, use_process=False)
    def matched(texts: daft.Series) -> list[bool]:
        return [bool(spans) for spans in match_spans(texts.to_arrow(), wanted)]

    touched = training.where(matched(col("text"))).select("row", "id", "text").to_pylist()
    rows: list[dict[str, Any]] = []
    counts = Counter({"documents_trimmed": 0, "documents_split": 0, "documents_dropped": 0, "matches": 0})
    hits = {task: Counter({"matches": 0, "documents": 0}) for task in used}
    for document in touched:
        text = pa.array([document["text"]], pa.large_string())
        spans = match_spans(text, wanted)[0]
        pieces = cut(document["text"], characters(document["text"], spans), config)
        reason = "nothing left" if not pieces else "too many pieces" if len(pieces) > config.maximum_pieces else None
        counts["matches"] += len(spans)
        counts["documents_dropped" if reason else "documents_trimmed" if len(pieces) == 1 else "documents_split"] += 1
        for task, held in used.items():
            found = len(match_spans(text, held)[0])
            hits[task].update(matches=found, documents=int(found > 0))
        for number, piece in enumerate([document["text"]] if reason else pieces, start=1):
            name = document["id"] if len(pieces) == 1 or reason else f"{document['id']}-{number}"
            size = len(piece.encode())
            rows.append({"row": document["row"], "id": name, "text": piece, "bytes": size, "reason": reason})
    facts.update(counts)
    facts["tasks"] = {
        task: {
            "texts": len(tasks[task]),
            "ngrams": _size(held),
            "frequent_ngrams": _size(held) - _size(used[task]),
            **hits[task],
        }
        for task, held in by_task.items()
    }
    return _replaced(documents.with_column("reason", daft.lit(None).cast(String)), rows)


def _frequent(training: DataFrame, wanted: Ngrams, often: int) -> npt.NDArray[np.uint64]:
    """The hashes of the wanted n-grams that stand in the training text at least so often."""

    @daft.func.batch(
        return_dtype=daft.DataType.list(daft.DataType.uint64()), batch_size=BATCH_DOCUMENTS, use_process=False
    )
    def held(texts: daft.Series) -> pa.Array:
        return pa.array(occurrences(texts.to_arrow(), wanted), pa.large_list(pa.uint64()))

    found = training.select(held(col("text")).alias("ngram")).explode("ngram").where(~col("ngram").is_null())
    counts = found.groupby("ngram").agg(col("ngram").count().alias("times")).where(f"times >= {often}")
    return np.array(counts.to_pydict()["ngram"], dtype=np.uint64)


def _size(held: Ngrams) -> int:
    return sum(map(len, held.values()))


def _replaced(documents: DataFrame, rows: list[dict[str, Any]]) -> DataFrame:
    """The documents, with the rows given in place of those of the same number."""
    if not rows:
        return documents
    types = {"row": pa.int64(), "id": pa.large_string(), "text": pa.large_string(), "bytes": pa.int64()}
    table = pa.Table.from_pylist(rows, pa.schema([*types.items(), ("reason", pa.large_string())]))
    new = daft.from_arrow(table)
    kept = documents.exclude("id", "text", "bytes", "reason").join(new, on="row", how="inner")
    return documents.join(new.select("row"), on="row", how="anti").concat(kept.select(*documents.column_names))


def _judged(documents: DataFrame, found: pa.Table) -> DataFrame:
    return documents.join(daft.from_arrow(found), on="row", how="left")


def _each(one: Callable[..., dict[str, Any]], **fields: daft.DataType) -> Any:
    """A batch function of Daft that applies `one` to each row; the keys of its result become columns."""
    dtype = daft.DataType.struct(fields)

    @daft.func.batch(return_dtype=dtype, unnest=True, batch_size=BATCH_DOCUMENTS, use_process=False)
    def each(*columns: daft.Series) -> pa.Array:
        rows: Sequence[tuple[Any, ...]] = list(zip(*(column.to_pylist() for column in columns), strict=True))
        return pa.array([one(*row) for row in rows], dtype.to_arrow_dtype())

    return each
