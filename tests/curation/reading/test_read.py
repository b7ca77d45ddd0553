"""Reading the user's sources: every kind of file, and every kind of damage."""

import gzip
import io
import json
import os
import resource
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from megalith.curation.reading import parquet, texts
from megalith.curation.reading.folders import find_files
from megalith.curation.reading.read import read_documents
from megalith.curation.reading.warc import read_arc, read_warc
from megalith.errors import InputError, UnsupportedError
from tests.curation.pages import DATA
from tests.curation.warcs import members, page


def read(path: Path) -> tuple[list[int], Counter[str]]:
    """Which pages were read (by their number), and the counts."""
    counts: Counter[str] = Counter()
    documents = list(read_documents(path, counts))
    return [int((document.url or "").rpartition("/")[2]) for document in documents], counts


def write(path: Path, *pieces: bytes) -> Path:
    path.write_bytes(b"".join(pieces))
    return path


@pytest.mark.parametrize("compressed", [True, False])
def test_every_page_of_a_warc_file_is_read_as_it_was_written(tmp_path: Path, compressed: bool) -> None:
    pages = [page(number) for number in range(5)]
    path = write(tmp_path / ("a.warc.gz" if compressed else "a.warc"), *members(pages, compressed=compressed))
    counts: Counter[str] = Counter()
    documents = list(read_documents(path, counts))
    assert [document.html for document in documents] == pages
    assert [document.url for document in documents] == [f"http://example.org/{number}" for number in range(5)]
    assert {document.charset for document in documents} == {"utf-8"}
    assert counts == {"records": 5}


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("what", ["data", "checksum", "magic"])
def test_a_damaged_gzip_member_costs_one_page(tmp_path: Path, where: str, what: str) -> None:
    written = members([page(number) for number in range(6)])
    broken = {"first": 0, "middle": 3, "last": 5}[where]
    offset = {"data": len(written[broken]) // 2, "checksum": -6, "magic": 0}[what]
    hurt = bytearray(written[broken])
    hurt[offset] ^= 0xFF
    written[broken] = bytes(hurt)
    numbers, counts = read(write(tmp_path / "a.warc.gz", *written))
    assert numbers == [number for number in range(6) if number != broken]
    assert counts["damaged"] + counts["truncated"] == 1


def test_two_damaged_places_are_two(tmp_path: Path) -> None:
    written = members([page(number) for number in range(8)])
    for broken in (2, 5):
        hurt = bytearray(written[broken])
        hurt[len(hurt) // 2] ^= 0xFF
        written[broken] = bytes(hurt)
    numbers, counts = read(write(tmp_path / "a.warc.gz", *written))
    assert numbers == [0, 1, 3, 4, 6, 7]
    assert counts["damaged"] == 2


def test_junk_between_records_costs_no_page(tmp_path: Path) -> None:
    written = members([page(number) for number in range(4)])
    numbers, counts = read(write(tmp_path / "a.warc.gz", *written[:2], b"\x1f\x8b\x08 not gzip" * 9, *written[2:]))
    assert numbers == [0, 1, 2, 3]
    assert counts["damaged"] == 1


@pytest.mark.parametrize("left", [5, 40, 250, -30])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_record_that_is_cut_short_is_counted_and_those_before_it_are_kept(
    tmp_path: Path, left: int, compressed: bool
) -> None:
    written = members([page(number) for number in range(4)], compressed=compressed)
    path = write(tmp_path / ("a.warc.gz" if compressed else "a.warc"), *written[:3], written[3][:left])
    numbers, counts = read(path)
    assert numbers == [0, 1, 2]
    assert counts["truncated"] + counts["damaged"] == 1


def test_a_plain_warc_with_lost_bytes_goes_on_at_the_next_record(tmp_path: Path) -> None:
    written = members([page(number) for number in range(6)], compressed=False)
    written[2] = written[2][:500] + written[2][700:]
    numbers, counts = read(write(tmp_path / "a.warc", *written))
    assert numbers[:2] == [0, 1] and numbers[-2:] == [4, 5]
    assert counts["damaged"] >= 1


def test_what_is_not_a_page_is_counted_by_its_reason(tmp_path: Path) -> None:
    image = members([b"\x89PNG"], **{"Content-Type": "image/png"})
    empty = members([b"  "])
    buffer = io.BytesIO()
    writer = WARCWriter(buffer, gzip=True)
    writer.write_record(writer.create_warcinfo_record("a.warc.gz", {"software": "test"}))
    gone = StatusAndHeaders("404 Not Found", [("Content-Type", "text/html")], protocol="HTTP/1.1")
    writer.write_record(
        writer.create_warc_record("http://example.org/9", "response", payload=io.BytesIO(page(9)), http_headers=gone)
    )
    numbers, counts = read(write(tmp_path / "a.warc.gz", buffer.getvalue(), *image, *empty, *members([page(0)])))
    assert numbers == [0]
    assert counts == {"records": 5, "warcinfo": 1, "not_found": 1, "not_html": 1, "no_text": 1}


def test_a_body_stored_decoded_under_headers_that_say_otherwise_is_read(tmp_path: Path) -> None:
    headers = {"Transfer-Encoding": "chunked", "Content-Encoding": "gzip"}
    path = write(tmp_path / "a.warc.gz", *members([b"<html><body>plain</body></html>"], **headers))
    assert [document.html for document in read_documents(path, Counter())] == [b"<html><body>plain</body></html>"]


def test_a_body_that_is_compressed_is_decoded(tmp_path: Path) -> None:
    path = write(tmp_path / "a.warc.gz", *members([gzip.compress(page(0))], **{"Content-Encoding": "gzip"}))
    assert [(document.html or b"")[:19] for document in read_documents(path, Counter())] == [b"<html><body>page 0 "]


def test_wet_conversions_are_ready_text(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    writer = WARCWriter(buffer, gzip=True)
    record = writer.create_warc_record(
        "http://example.org/0", "conversion", payload=io.BytesIO("Grüße".encode()), warc_content_type="text/plain"
    )
    writer.write_record(record)
    (document,) = read_documents(write(tmp_path / "a.warc.wet.gz", buffer.getvalue()), Counter())
    assert (document.url, document.html, document.text) == ("http://example.org/0", None, "Grüße")


LINES = "".join(
    json.dumps({"text": f"document {n}", "url": f"http://example.org/{n}"}) + "\n" for n in range(3)
).encode()


def _zstd(data: bytes) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", LINES), ("a.jsonl.gz", gzip.compress(LINES, mtime=0)), ("a.jsonl.zst", _zstd(LINES))],
)
def test_json_lines_are_read_plain_and_compressed(tmp_path: Path, name: str, content: bytes) -> None:
    documents = list(read_documents(write(tmp_path / name, content), Counter()))
    assert [(document.url, document.text) for document in documents] == [
        (f"http://example.org/{number}", f"document {number}") for number in range(3)
    ]


def test_a_broken_line_is_counted_and_passed_over(tmp_path: Path) -> None:
    more = (
        b'{"text": "torn\n[1]\n\n{"title": "no text"}\n\xff\xfe{}\n{"content": "other field", "meta": {"url": "u"}}\n'
    )
    counts: Counter[str] = Counter()
    documents = list(read_documents(write(tmp_path / "a.jsonl", LINES, more), counts))
    assert [document.text for document in documents][3:] == ["other field"]
    assert documents[3].url == "u"
    assert counts == {"records": 8, "bad_line": 3, "no_text": 1}


def test_a_line_of_brackets_without_end_is_a_broken_line(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    assert len(list(read_documents(write(tmp_path / "a.jsonl", LINES, b"[" * 200_000 + b"\n"), counts))) == 3
    assert counts["bad_line"] == 1


def test_a_zst_file_cut_short_is_counted_and_gives_what_came_before(tmp_path: Path) -> None:
    many = b"".join(json.dumps({"text": os.urandom(100).hex()}).encode() + b"\n" for _ in range(5000))
    first, second = _zstd(many), _zstd(many)
    counts: Counter[str] = Counter()
    documents = list(read_documents(write(tmp_path / "a.jsonl.zst", first, second[: len(second) // 2]), counts))
    assert 5000 < len(documents) < 10_000
    assert counts["truncated"] == 1


def test_a_gzip_file_cut_short_gives_what_came_before(tmp_path: Path) -> None:
    many = b"".join(json.dumps({"text": os.urandom(100).hex()}).encode() + b"\n" for _ in range(2000))
    counts: Counter[str] = Counter()
    documents = list(read_documents(write(tmp_path / "a.jsonl.gz", gzip.compress(many)[:-5000]), counts))
    assert len(documents) > 1000
    assert counts["truncated"] == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", {}),
        (b"hello\nworld\n", {"records": 2, "bad_line": 2}),
        (b'{"story": "x"}\n', {"records": 1, "no_text": 1}),
        (b'{"text": null}\n', {"records": 1, "no_text": 1}),
    ],
)
def test_a_json_lines_file_without_a_usable_line_is_counted(
    tmp_path: Path, content: bytes, told: dict[str, int]
) -> None:
    counts: Counter[str] = Counter()
    assert not list(read_documents(write(tmp_path / "a.jsonl", content), counts))
    assert counts == told


def test_parquet_is_read_by_its_text_column(tmp_path: Path) -> None:
    table = pa.table({"text": ["one", None, "two"], "url": ["u1", "u2", None], "other": [1, 2, 3]})
    pq.write_table(table, tmp_path / "a.parquet")
    counts: Counter[str] = Counter()
    documents = list(read_documents(tmp_path / "a.parquet", counts))
    assert [(document.url, document.text) for document in documents] == [("u1", "one"), (None, "two")]
    assert counts == {"records": 3, "no_text": 1}


def test_parquet_without_text_or_torn_is_counted(tmp_path: Path) -> None:
    pq.write_table(pa.table({"story": ["x", "y"]}), tmp_path / "a.parquet")
    counts: Counter[str] = Counter()
    assert not list(read_documents(tmp_path / "a.parquet", counts))
    assert not list(read_documents(write(tmp_path / "b.parquet", b"PAR1 torn"), counts))
    assert counts == {"records": 3, "no_text_column": 2, "damaged": 1}


def test_text_and_html_files_are_one_document_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.txt", "\ufeffGrüße".encode())
    write(tmp_path / "b.txt.zst", _zstd(b"zstd"))
    write(tmp_path / "c.html", b"<p>hello")
    write(tmp_path / "d.txt", b" \n")
    counts: Counter[str] = Counter()
    documents = [document for file in find_files(tmp_path) for document in read_documents(file, counts)]
    assert [(document.text, document.html) for document in documents] == [
        ("Grüße", None),
        ("zstd", None),
        (None, b"<p>hello"),
    ]
    assert counts == {"records": 4, "no_text": 1}
    monkeypatch.setattr(texts, "MAXIMUM_BYTES", 3)
    assert list(read_documents(tmp_path / "c.html", counts)) == []
    assert counts["too_long"] == 1


def test_a_directory_gives_its_known_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b.txt", "inner/a.warc.gz", "a.JSONL", "manifest.json", "x.pdf", ".hidden.txt", "logs.bin"):
        (tmp_path / name).write_text("x")
    found = find_files(tmp_path)
    assert [file.relative_to(tmp_path).as_posix() for file in found] == ["a.JSONL", "b.txt", "inner/a.warc.gz"]


def test_sources_that_cannot_be_read_say_the_mend(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        find_files(tmp_path / "missing.warc.gz")
    with pytest.raises(InputError, match=r"1 × \.pdf"):
        write(tmp_path / "x.pdf", b"x")
        find_files(tmp_path)
    with pytest.raises(InputError, match="WARC, WET"):
        find_files(tmp_path / "x.pdf")
    with pytest.raises(UnsupportedError, match="download it"):
        find_files(Path("ftp://example.org/a.warc.gz"))


def test_a_device_is_refused_before_it_is_read_without_end(tmp_path: Path) -> None:
    (tmp_path / "x.txt").symlink_to("/dev/null")
    with pytest.raises(InputError, match="not a regular file"):
        find_files(tmp_path / "x.txt")


@pytest.mark.data
def test_no_sample_of_real_archives_stops_the_reader() -> None:
    folder = DATA / "corpora/warc_samples"
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing (set MEGALITH_DATA)")
    files = [file for file in sorted(folder.iterdir()) if ".warc" in file.name or ".arc" in file.name]
    assert len(files) == 67
    pages: dict[str, int] = {}
    counts: Counter[str] = Counter()
    for file in files:
        reader = read_arc if ".arc" in file.name else read_warc
        pages[file.name] = sum(1 for _ in reader(file, counts))
    assert pages["aut__example.warc.gz"] == 94
    variants = [name for name in pages if name.startswith("chatnoir-resiliparse__warcfile.warc")]
    assert [pages[name] for name in variants] == [16, 16, 16]  # plain, gzip, lz4
    assert pages["webarchive-discovery__transfer_compression_brotli.warc.gz"] == 1
    assert counts["damaged"] < 10 and counts["truncated"] < 10


def test_a_name_that_is_not_utf_8_is_refused_with_the_file(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"a\xff.jsonl")).write_text('{"text": "a"}')
    with pytest.raises(InputError, match="not UTF-8"):
        find_files(tmp_path)


def test_a_value_that_stands_for_gigabytes_is_read_as_a_document_of_its_length(tmp_path: Path) -> None:
    """60 MB, dictionary-coded, in 256 rows: six kilobytes. Read as lists of strings they took 15 GB."""
    path, counts = tmp_path / "bomb.parquet", Counter[str]()
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 256, pa.int32()), pa.array(["x" * 60_000_000]))
    pq.write_table(pa.table({"text": repeated}), path, compression="zstd")
    assert [len(document.text or "") for document in read_documents(path, counts)] == [60_000_000]
    assert counts == {"records": 256, "repeated": 255}
    plain = tmp_path / "plain.parquet"  # the same without Arrow's own schema, which says that it is a dictionary
    pq.write_table(pa.table({"text": repeated[:3].cast(pa.string())}), plain, compression="zstd", store_schema=False)
    before = _peak()
    assert len(list(read_documents(plain, Counter()))) == 1
    assert _peak() - before < 1e9


def test_a_page_that_expands_ten_thousand_times_is_not_unpacked(tmp_path: Path) -> None:
    path, counts = tmp_path / "bomb.parquet", Counter[str]()
    rows = pa.array(["x" * 60_000_000] * 10, pa.large_string())
    pq.write_table(pa.table({"text": rows}), path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 100_000
    before = _peak()
    assert not list(read_documents(path, counts))
    assert counts == {"records": 10, "too_long": 10}
    assert _peak() - before < 1e8


def test_a_column_of_lists_is_no_text_and_is_not_read(tmp_path: Path) -> None:
    path, counts = tmp_path / "lists.parquet", Counter[str]()
    pq.write_table(pa.table({"text": [["x"] * 1000] * 100}), path)
    assert not list(read_documents(path, counts))
    assert counts == {"records": 100, "no_text": 100}


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_how_long_a_page_is_stands_in_its_header(tmp_path: Path, version: str) -> None:
    path = tmp_path / "docs.parquet"
    pq.write_table(
        pa.table({"text": ["a" * 5000, "b" * 300]}), path, data_page_version=version, use_dictionary=version == "2.0"
    )
    column = pq.read_metadata(path).row_group(0).column(0)
    with path.open("rb") as file:
        first = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
        assert 5308 <= parquet._page_bytes(file, first) <= 5320


def test_a_window_of_two_gigabytes_is_refused_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl.zst"
    for log, refused in ((27, False), (28, True), (31, True)):
        parameters = zstandard.ZstdCompressionParameters(window_log=log, enable_ldm=True)
        frame = zstandard.ZstdCompressor(compression_params=parameters).compressobj()  # of a size not known before
        path.write_bytes(frame.compress(b'{"text": "a"}\n') + frame.flush())
        if refused:
            with pytest.raises(InputError, match=f"takes {1 << (log - 20):,} MiB of memory.*zstd -dc --long=31"):
                list(read_documents(path, Counter()))
        else:
            assert len(list(read_documents(path, Counter()))) == 1


def test_a_page_of_comments_is_told_from_others_at_once(tmp_path: Path) -> None:
    """Where no kind is said, the look of the page says it; the pattern tried every way through the comments."""
    comments = b"<!-- x -->" * 6000
    for body, pages in ((comments, 0), (comments + b"<html>the harbour", 1), (b"<!-- " * 10_000 + b"<html>", 0)):
        path = tmp_path / "crawl.warc"
        path.write_bytes(members([body], compressed=False, **{"Content-Type": ""})[0])
        assert len(list(read_documents(path, Counter()))) == pages


def test_a_charset_that_the_web_does_not_know_is_counted_and_costs_no_page(tmp_path: Path) -> None:
    path, counts = tmp_path / "crawl.warc", Counter[str]()
    body = b"<html><p>caf\xe9</p></html>"
    for kind in ("undefined", "idna", "latin1"):
        with path.open("ab") as file:
            file.write(members([body], compressed=False, **{"Content-Type": f"text/html; charset={kind}"})[0])
    assert [document.charset for document in read_documents(path, counts)] == [None, None, "cp1252"]
    assert counts == {"records": 3, "unknown_charset": 2}


def _peak() -> float:
    """Bytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
