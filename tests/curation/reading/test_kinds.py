"""Every kind of file in every packing, encoding and layout: what comes out, and that its counts add up."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zstandard

from megalith.curation.reading.document import BESIDE, Document
from megalith.curation.reading.how import How
from megalith.curation.reading.lines import lines
from megalith.curation.reading.read import read_documents

TEXTS = [f"Text number {number}, with “quotes”, a tab\tand é.\nTwo lines." for number in range(7)]
ROWS = [{"text": text, "url": f"http://x.example/{number}", "id": number} for number, text in enumerate(TEXTS)]


def read(path: Path, how: How | None = None) -> tuple[list[Document], Counter[str]]:
    """The documents of a file; the counts must add up."""
    counts: Counter[str] = Counter()
    documents = list(read_documents(path, counts, None, how or How()))
    lost = sum(count for reason, count in counts.items() if reason not in BESIDE)
    assert counts["records"] == len(documents) + lost, counts
    return documents, counts


def _lines(rows: list[dict[str, Any]], *, ascii_only: bool = False) -> str:
    return "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)


def _csv(delimiter: str) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, ["url", "text", "id"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return file.getvalue()


LAYOUTS = {
    "lines.jsonl": _lines(ROWS),
    "lines.ndjson": _lines(ROWS),
    "lines.json": _lines(ROWS),
    "array.json": json.dumps(ROWS),
    "array.jsonl": json.dumps(ROWS, ensure_ascii=False),
    "array-of-lines.json": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
    "pretty-array.json": json.dumps(ROWS, indent=2),
    "pretty-objects.jsonl": "\n".join(json.dumps(row, indent=2) for row in ROWS),
    "side-by-side.json": "".join(map(json.dumps, ROWS)),
    "table.csv": _csv(","),
    "table.tsv": _csv("\t"),
    "semicolons.csv": _csv(";"),
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_come_out_of_every_layout_and_packing(tmp_path: Path, layout: str, packing: str) -> None:
    path = tmp_path / f"{layout}{packing}"
    path.write_bytes(PACKINGS[packing](LAYOUTS[layout].encode()))
    documents, counts = read(path)
    assert [document.text for document in documents] == TEXTS
    assert [(document.url, document.source_id) for document in documents] == [
        (row["url"], str(row["id"])) for row in ROWS
    ]
    assert counts == {"records": len(ROWS)}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_come_out_of_every_encoding(tmp_path: Path, layout: str, encoding: str) -> None:
    path = tmp_path / layout
    path.write_bytes(LAYOUTS[layout].encode(encoding, "replace"))
    documents, counts = read(path)
    assert [document.text for document in documents] == TEXTS
    other = 0 if encoding.startswith("utf-8") or (LAYOUTS[layout].isascii() and encoding == "cp1252") else len(ROWS)
    assert counts["other_encoding"] == other


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "binary", "large_binary", "dictionary"])
@pytest.mark.parametrize("layout", ["parquet", "feather", "arrow", "stream"])
def test_rows_come_out_of_every_table_and_type(tmp_path: Path, layout: str, kind: str) -> None:
    text = pa.array(TEXTS)
    text = text.dictionary_encode() if kind == "dictionary" else text.cast(getattr(pa, kind)())
    url = pa.array([str(row["url"]).encode() for row in ROWS], pa.binary())
    table = pa.table({"id": range(len(ROWS)), "url": url, "text": text})
    path = tmp_path / f"a.{'arrow' if layout == 'stream' else layout}"
    if layout == "parquet":
        pq.write_table(table, path)
    elif layout == "feather":
        pa.feather.write_feather(table, path)
    else:
        make = pa.ipc.new_stream if layout == "stream" else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as file, make(file, table.schema) as writer:
            writer.write_table(table)
    documents, counts = read(path)
    assert [document.text for document in documents] == TEXTS
    assert [document.url for document in documents] == [row["url"] for row in ROWS]
    assert [document.source_id for document in documents] == [str(row["id"]) for row in ROWS]
    assert counts == {"records": len(ROWS)}


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-8-sig", "utf-16-le", "koi8-r", "shift_jis"])
def test_a_text_file_in_another_encoding_is_decoded_and_counted(tmp_path: Path, encoding: str) -> None:
    text = {
        "koi8-r": "Река была шире, чем думал пекарь, и город построил мост из серого камня. " * 4,
        "shift_jis": "港の町には古い時計屋があり、灯台の鐘は冬の間ずっと鳴らなかった。" * 4,
    }.get(encoding, "Le bâcker passa la rivière, et le marché était fermé. Straße, naïf, garçon. " * 3)
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    documents, counts = read(tmp_path / "a.txt")
    assert [document.text for document in documents] == [text]
    assert counts["other_encoding"] == (encoding != "utf-8-sig")


@pytest.mark.parametrize(
    "name",
    ["a.jsonl", "a.json", "a.txt", "a.csv", "a.tsv", "a.html", "a.parquet", "a.arrow", "a.warc", "a.warc.gz", "a.arc"],
)
@pytest.mark.parametrize(
    "content", [b"", gzip.compress(b"", mtime=0), zstandard.compress(b"")], ids=["empty", "empty gzip", "empty zstd"]
)
def test_nothing_gives_nothing(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    documents, _ = read(tmp_path / name)
    assert not documents


def test_the_named_fields_are_read_and_kept(tmp_path: Path) -> None:
    rows = [
        {"data": {"body": text}, "link": "u", "doc": f"d{number}", "license": "cc-by", "score": 0.5, "text": "not this"}
        for number, text in enumerate(TEXTS)
    ]
    how = How("data.body", "link", "doc", ("license", "score"))
    (tmp_path / "a.jsonl").write_text(_lines(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        documents, _ = read(tmp_path / name, how)
        assert [document.text for document in documents] == TEXTS
        assert (documents[1].url, documents[1].source_id) == ("u", "d1")
        assert json.loads(documents[1].metadata or "") == {"license": "cc-by", "score": 0.5}
    (kept, *_), _ = read(tmp_path / "a.jsonl", How("data.body", metadata=("*",)))
    assert set(json.loads(kept.metadata or "")) == {"data", "link", "doc", "license", "score", "text"}


def test_names_that_corpora_have_for_the_text_are_known(tmp_path: Path) -> None:
    for name in ("raw_content", "document", "body", "Text", "CONTENT"):
        pq.write_table(pa.table({"other": TEXTS[::-1], name: TEXTS}), tmp_path / "a.parquet")
        (tmp_path / "a.jsonl").write_text(_lines([{"other": 1, name: text} for text in TEXTS]))
        for file in ("a.parquet", "a.jsonl"):
            assert [document.text for document in read(tmp_path / file)[0]] == TEXTS


def test_of_two_columns_of_one_name_the_first_is_read(tmp_path: Path) -> None:
    table = pa.table([pa.array(TEXTS), pa.array(TEXTS[::-1])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    assert [document.text for document in read(tmp_path / "a.parquet")[0]] == TEXTS


def test_a_table_without_the_column_is_counted_row_by_row(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[1] == {"records": 2, "no_text_column": 2}
    (tmp_path / "a.csv").write_text("id,story\n1,x\n2,y\n")
    assert read(tmp_path / "a.csv")[1] == {"records": 2, "no_text_column": 2}
    assert [document.text for document in read(tmp_path / "a.csv", How("story"))[0]] == ["x", "y"]


def test_a_long_cell_is_read_and_the_limit_of_csv_is_left_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = "x" * (before + 1)
    (tmp_path / "a.csv").write_text(f"text\n{long}\nshort\n")
    documents = read_documents(tmp_path / "a.csv", Counter())
    assert next(documents).text == long
    assert csv.field_size_limit() == before, "between two rows, other tables are read by the limit of their own"
    assert [document.text for document in documents] == ["short"]
    assert csv.field_size_limit() == before


def test_a_cell_over_the_bound_is_counted_and_the_next_row_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("megalith.curation.reading.tables.MAXIMUM_BYTES", 10)
    (tmp_path / "a.csv").write_text("text\nmore than ten\nshort\n")
    documents, counts = read(tmp_path / "a.csv")
    assert [document.text for document in documents] == ["short"]
    assert counts == {"records": 2, "bad_line": 1}


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
@pytest.mark.parametrize("layout", ["lines.jsonl", "pretty-array.json", "table.csv"])
def test_what_is_cut_short_is_counted(tmp_path: Path, layout: str, pack: Callable[[bytes], bytes]) -> None:
    content = pack(LAYOUTS[layout].encode())
    (tmp_path / layout).write_bytes(content[: len(content) * 2 // 3])
    documents, counts = read(tmp_path / layout)
    assert counts["truncated"] + counts["damaged"] >= 1
    assert [document.text for document in documents] == TEXTS[: len(documents)]


@pytest.mark.parametrize(
    ("separator", "joint"),
    [
        ("line", "\n"),
        ("blank_line", "\n\n"),
        ("blank_line", "\r\n \t\r\n\r\n"),
        ("auto", "\n<|endoftext|>\n"),
        ("%%", "%%"),
    ],
)
def test_a_text_file_is_parted_by_its_separator(tmp_path: Path, separator: str, joint: str) -> None:
    texts = [f"Story {number} is é long." for number in range(9)]
    (tmp_path / "a.txt").write_bytes(joint.join(texts).encode())
    documents, counts = read(tmp_path / "a.txt", How(text_separator=separator))
    assert [(document.text or "").strip() for document in documents] == texts
    assert counts == {"records": 9}
    assert documents[2].source_id == "a.txt#2"


def test_a_separator_is_found_across_pieces_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megalith.curation.reading.texts._PIECE_BYTES", 7)
    texts = [f"Story {number}: é ü 書." for number in range(50)]
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(texts))
    documents, _ = read(tmp_path / "a.txt", How(text_separator="<|endoftext|>"))
    assert [document.text for document in documents] == texts


def test_a_text_that_stands_for_a_corpus_is_cut_between_paragraphs(tmp_path: Path) -> None:
    paragraphs = [f"Paragraph {number}. " + "word " * (number % 40) for number in range(2000)]
    text = "\n\n".join(paragraphs)
    (tmp_path / "a.txt").write_text(text)
    documents, counts = read(tmp_path / "a.txt", How(passage_characters=8000, few=True))
    assert "".join(document.text or "" for document in documents) == text
    assert all(4000 <= len(document.text or "") <= 16_000 for document in documents)
    assert all((document.text or "").endswith("\n\n") for document in documents[:-1])
    assert counts == {"records": len(documents)} and len(documents) > 10
    assert len(read(tmp_path / "a.txt", How(passage_characters=8000))[0]) == 1
    assert len(read(tmp_path / "a.txt", How(passage_characters=0, few=True))[0]) == 1


def test_a_text_too_long_for_a_document_is_cut_or_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("megalith.curation.reading.texts.MAXIMUM_BYTES", 50_000)
    text = "A sentence that is read. " * 4000
    (tmp_path / "a.txt").write_text(text)
    documents, _ = read(tmp_path / "a.txt", How(passage_characters=8000))
    assert "".join(document.text or "" for document in documents) == text
    assert read(tmp_path / "a.txt", How(text_separator="file"))[1] == {"records": 1, "too_long": 1}
    assert read(tmp_path / "a.txt", How(text_separator="line"))[1] == {"records": 1, "too_long": 1}


def test_a_part_within_a_long_line_reads_no_further_than_its_end() -> None:
    content = b'{"text": "' + b"x" * 5_000_000 + b'"}\n{"text": "a"}\n'
    found = []
    for start in range(0, len(content), 100_000):
        file = io.BytesIO(content)
        stop = min(start + 100_000, len(content))
        found += list(lines(file, Counter(), (start, stop)))
        assert not start or file.tell() <= stop + (1 << 20)
    assert b"".join(found) == content


def test_status_lines_that_browsers_take_are_taken_and_plain_text_by_option(tmp_path: Path) -> None:
    heads = ["HTTP/1.1 200 OK", "http/1.1 200 OK", "ICY 200 OK", "HTTP/1.1  200 OK", "HTTP/2 200", "HTTP/1.1 404 No"]
    pages = [(head, "text/html", f"<html><body>{number}</body></html>") for number, head in enumerate(heads)]
    content = b""
    for number, (head, kind, body) in enumerate([*pages, ("HTTP/1.1 200 OK", "text/plain; charset=koi8-r", "Река")]):
        http = f"{head}\r\nContent-Type: {kind}\r\n\r\n".encode() + body.encode("koi8-r")
        content += (
            f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://{number}.example/\r\n"
            f"Content-Type: application/http\r\nContent-Length: {len(http)}\r\n\r\n".encode()
        ) + http + b"\r\n\r\n"  # fmt: skip
    (tmp_path / "a.warc").write_bytes(content)
    documents, counts = read(tmp_path / "a.warc")
    assert [document.url for document in documents] == [f"http://{number}.example/" for number in range(5)]
    assert counts == {"records": 7, "not_found": 1, "not_html": 1}
    documents, counts = read(tmp_path / "a.warc", How(plain_text_pages=True))
    assert documents[-1].text == "Река" and counts == {"records": 7, "not_found": 1, "other_encoding": 1}
