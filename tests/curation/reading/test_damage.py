"""Files that are damaged, packed to hurt, or strange: processed or refused with counts, and never much memory."""

import bz2
import gzip
import json
import lzma
import os
import random
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import brotli
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from megalith.curation.reading import lines as line_module
from megalith.curation.reading import opening, warc
from megalith.curation.reading.content_encoding import decoded
from megalith.curation.reading.read import read_documents, reader_of
from megalith.curation.reading.warc import Document
from tests.curation.pages import DATA
from tests.curation.warcs import members, page

SAMPLES = DATA / "corpora/warc_samples"


def read(path: Path) -> tuple[list[Document], Counter[str]]:
    counts: Counter[str] = Counter()
    return list(read_documents(path, counts)), counts


def accounted(documents: list[Document], counts: Counter[str]) -> bool:
    """Whether each record became a document or was passed over for a reason."""
    others = {name: number for name, number in counts.items() if name not in ("records", "damaged")}
    return 0 <= counts["records"] - len(documents) - sum(others.values()) <= counts["damaged"]


@pytest.mark.data
def test_every_sample_of_real_archives_is_read_and_every_record_of_it_counted() -> None:
    if not SAMPLES.is_dir():
        pytest.skip(f"{SAMPLES} is missing (set MEGALITH_DATA)")
    seen = 0
    for file in sorted(SAMPLES.iterdir()):
        if file.name not in ("SOURCE.md", "index.json"):
            documents, counts = read(file) if reader_of(file.name) else _renamed(file)
            assert accounted(documents, counts), (file.name, len(documents), counts)
            assert documents or counts, file.name
            seen += 1
    assert seen == 67


def _renamed(file: Path) -> tuple[list[Document], Counter[str]]:
    """The kind of a file whose name hides it (.warc.gz.bad, .wat)."""
    counts: Counter[str] = Counter()
    return list(warc.read_warc(file, counts)), counts


@pytest.mark.data
def test_no_damage_to_a_real_archive_stops_the_reader() -> None:
    """Bytes changed, lost, and doubled at drawn places, in every format."""
    if not SAMPLES.is_dir():
        pytest.skip(f"{SAMPLES} is missing (set MEGALITH_DATA)")
    draw = random.Random(1)
    for name in (
        "whirlwind-python__whirlwind.warc.gz",
        "pywb__example.warc",
        "pywb__example.arc.gz",
        "pywb__example.arc",
    ):
        whole = (SAMPLES / name).read_bytes()
        for _ in range(25):
            hurt = bytearray(whole)
            for _ in range(draw.randint(1, 8)):
                at, count = draw.randrange(len(hurt)), draw.randint(1, 50)
                hurt[at : at + count] = draw.choice([draw.randbytes(count), b"", hurt[at : at + count] * 2])
            counts: Counter[str] = Counter()
            reader = warc.read_arc if ".arc" in name else warc.read_warc
            list(reader(_file(bytes(hurt)), counts))
            assert counts, name


_place = None


@pytest.fixture(autouse=True)
def _here(tmp_path: Path) -> None:
    global _place
    _place = tmp_path


def _file(content: bytes, name: str = "hurt.bin") -> Path:
    assert _place is not None
    (_place / name).write_bytes(content)
    return _place / name


@pytest.mark.parametrize(
    "packing", ["gzip", "zstd", "zstd with a dictionary", "zstd with a packed dictionary", "plain"]
)
def test_of_sixty_records_with_one_damaged_fifty_nine_are_read(packing: str) -> None:
    plain = members([page(number) for number in range(60)], compressed=False)
    dictionary = zstandard.train_dictionary(2000, plain * 4)
    packer = zstandard.ZstdCompressor(write_checksum=True, dict_data=dictionary if "dictionary" in packing else None)
    pack = {"gzip": gzip.compress, "plain": bytes}.get(packing, packer.compress)
    packed = [pack(record) for record in plain]
    hurt = bytearray(packed[31])
    if packing == "plain":
        hurt[:3] = b"\0\0\0"
    else:
        hurt[len(hurt) // 2] ^= 0xFF
    packed[31] = bytes(hurt)
    if "dictionary" in packing:
        raw = dictionary.as_bytes()
        raw = zstandard.compress(raw) if "packed" in packing else raw
        packed.insert(0, struct.pack("<II", 0x184D2A5D, len(raw)) + raw)
    documents, counts = read(_file(b"".join(packed), "a.warc" + {"gzip": ".gz", "plain": ""}.get(packing, ".zst")))
    assert [document.url for document in documents] == [f"http://example.org/{n}" for n in range(60) if n != 31]
    assert counts["damaged"] == 1


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_zstd_archive_that_is_cut_short_is_counted(cut: int) -> None:
    packed = b"".join(map(zstandard.compress, members([page(number) for number in range(5)], compressed=False)))
    documents, counts = read(_file(packed[:-cut], "a.warc.zst"))
    assert len(documents) == 4
    assert counts["damaged"] + counts["truncated"] == 1
    documents, counts = read(_file(packed, "a.warc.zst"))
    assert (len(documents), counts) == (5, {"records": 5})


def test_a_body_that_is_not_what_its_encoding_says_is_read_as_it_is_or_counted() -> None:
    html = b"<html><body>hello</body></html>"
    raw = zlib.compressobj(wbits=-15)
    good = {
        "gzip": gzip.compress(html),
        "x-gzip": gzip.compress(html[:9]) + gzip.compress(html[9:]) + b"junk",
        "deflate": zlib.compress(html),
        "Deflate": raw.compress(html) + raw.flush(),
        "br": brotli.compress(html),
        "zstd": zstandard.compress(html),
        "deflate, gzip": gzip.compress(zlib.compress(html)),
        "none": html,
    }
    for encoding, body in good.items():
        assert decoded(body, encoding, 1000) == html, encoding
        documents, _ = read(_file(b"".join(members([body], **{"Content-Encoding": encoding})), "a.warc.gz"))
        assert [document.html for document in documents] == [html], encoding
    for encoding in ("gzip", "br", "deflate", "zstd"):
        documents, _ = read(_file(b"".join(members([html], **{"Content-Encoding": encoding})), "a.warc.gz"))
        assert [document.html for document in documents] == [html], encoding
    torn = members([good["gzip"][:-12]], **{"Content-Encoding": "gzip"})
    assert read(_file(b"".join(torn), "a.warc.gz")) == ([], {"records": 1, "bad_http": 1})


READ_ALL = """
import json, resource, sys
from collections import Counter
from pathlib import Path
from megalith.curation.reading.read import read_documents
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told = {}
for file in sys.argv[1:]:
    counts = Counter()
    told[Path(file).name] = [sum(1 for _ in read_documents(Path(file), counts)), counts["too_long"]]
print(json.dumps([told, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024]))
"""


def test_a_gigabyte_packed_into_a_megabyte_is_counted_and_not_unpacked() -> None:
    zstd, gzipped, good = _zstd_zeros(1 << 30), _gzip_zeros(1 << 30), json.dumps({"text": "good"}).encode() + b"\n"
    thick = brotli.Compressor(quality=1)
    brotlied = b"".join([thick.process(bytes(1 << 20)) for _ in range(1 << 10)]) + thick.finish()
    assert max(map(len, (gzipped, zstd, brotlied))) < 1_200_000
    head = b"WARC/1.0\r\nWARC-Type: resource\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % (1 << 30)
    files = [
        _file(b"".join(members([gzipped], **{"Content-Encoding": "gzip"})), "gzip body.warc.gz"),
        _file(b"".join(members([brotlied], **{"Content-Encoding": "br"})), "brotli body.warc.gz"),
        _file(b"".join(members([zstd], **{"Content-Encoding": "zstd"})), "zstd body.warc.gz"),
        _file(gzip.compress(head) + gzipped, "gzip record.warc.gz"),
        _file(zstd, "zstd text.txt.zst"),
        _file(gzipped, "gzip page.html.gz"),
        _file(gzip.compress(good) + _gzip_zeros(1 << 28) + gzip.compress(b"\n" + good), "gzip line.jsonl.gz"),
        _file(
            zstandard.compress(good) + _zstd_zeros(1 << 28) + zstandard.compress(b"\n" + good), "zstd line.jsonl.zst"
        ),
    ]
    said = subprocess.run(
        [sys.executable, "-c", READ_ALL, *map(str, files)], capture_output=True, text=True, timeout=60
    )
    told, megabytes = json.loads(said.stdout)
    assert told == {file.name: [2 if "line" in file.name else 0, 1] for file in files}
    assert megabytes < 300  # some copies of the longest document that is read


def _gzip_zeros(count: int) -> bytes:
    """One member of so many zeros, made of one megabyte's block over and over."""
    zeros = bytes(1 << 20)
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(count >> 20):
        checksum = zlib.crc32(zeros, checksum)
    end = zlib.compressobj(wbits=-15).flush() + struct.pack("<II", checksum, count)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block * (count >> 20) + end


def _zstd_zeros(count: int) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    return b"".join([packer.compress(bytes(1 << 20)) for _ in range(count >> 20)]) + packer.flush()


def test_a_line_of_ten_megabytes_is_a_document_and_one_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    long = json.dumps({"text": "x" * 10_000_000}).encode() + b"\n"
    short = json.dumps({"text": "short"}).encode() + b"\n"
    documents, counts = read(_file(long + short, "a.jsonl"))
    assert [len(document.text or "") for document in documents] == [10_000_000, 5]
    assert counts == {"records": 2}
    monkeypatch.setattr(line_module, "MAXIMUM_BYTES", 9_000_000)
    for content in (long + short, short + long, short + long[:-1]):
        documents, counts = read(_file(content, "a.jsonl"))
        assert [document.text for document in documents] == ["short"]
        assert counts == {"records": 2, "too_long": 1}


def test_parts_of_a_file_with_a_line_too_long_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "MAXIMUM_BYTES", 200)
    lines = [json.dumps({"text": "x" * size}).encode() + b"\n" for size in (10, 500, 20, 150, 300, 30)]
    file = _file(b"".join(lines), "a.jsonl")
    for step in (1, 100, 333):
        counts: Counter[str] = Counter()
        found = [
            len(document.text or "")
            for start in range(0, file.stat().st_size, step)
            for document in read_documents(file, counts, (start, start + step))
        ]
        assert found == [10, 20, 150, 30]
        assert counts == {"records": 6, "too_long": 2}


def test_invalid_utf8_and_nul_bytes_are_read() -> None:
    (text,), _ = read(_file(b"a\xff\x00b", "a.txt"))
    assert text.text == "a\ufffd\x00b"
    (html,), _ = read(_file(b"<p>a\xff\x00b", "a.html"))
    assert html.html == b"<p>a\xff\x00b"
    documents, counts = read(_file(b'{"text": "a\xff"}\n{"text": "a\\u0000b"}\n\x00\x00\n', "a.jsonl"))
    assert [document.text for document in documents] == ["a\x00b"]
    assert counts == {"records": 3, "bad_line": 2}
    column = pa.array([b"good", b"bad \xff", None], pa.binary()).view(pa.string())
    assert _place is not None
    pq.write_table(pa.table({"text": column}), _place / "a.parquet")
    documents, counts = read(_place / "a.parquet")
    assert [document.text for document in documents] == ["good", "bad \ufffd"]
    assert counts == {"records": 3, "no_text": 1, "replaced_bytes": 1}


@pytest.mark.parametrize(
    "name", ["a.warc", "a.warc.gz", "a.warc.zst", "a.wet.gz", "a.arc", "a.arc.gz", "a.txt", "a.txt.gz", "a.html.zst"]
)
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 1000, b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\r\n\r\n", os.urandom(3000)]
)
def test_files_of_nothing_and_of_noise_are_passed_over(name: str, content: bytes) -> None:
    documents, counts = read(_file(content, name))
    assert not documents or name == "a.txt"
    assert counts or not content


def test_a_damaged_row_group_of_parquet_costs_itself() -> None:
    texts = [f"{number} {os.urandom(500).hex()}" for number in range(60)]
    assert _place is not None
    pq.write_table(pa.table({"text": texts}), _place / "a.parquet", row_group_size=10, compression="zstd")
    about = pq.read_metadata(_place / "a.parquet").row_group(3).column(0)
    content = bytearray((_place / "a.parquet").read_bytes())
    at = about.data_page_offset
    content[at : at + 200] = os.urandom(200)
    documents, counts = read(_file(bytes(content), "a.parquet"))
    assert [document.text for document in documents] == texts[:30] + texts[40:]
    assert counts["damaged"] == 1


def test_headers_without_end_are_damage() -> None:
    good = b"".join(members([page(0)], compressed=False))
    for endless in (b"WARC/1.0\r\nX: " + b"a" * 3_000_000, b"WARC/1.0\r\n" + b"X: a\r\n" * 500_000):
        documents, counts = read(_file(endless + b"\r\n" + good, "a.warc"))
        assert len(documents) == 1 and counts["damaged"] == 1


def test_what_comes_out_of_zstd_at_once_is_bounded() -> None:
    bomb = _zstd_zeros(1 << 30)
    frame = zstandard.ZstdDecompressor().decompressobj()
    step = opening.STEP_BYTES
    assert max(len(frame.decompress(bomb[at : at + step])) for at in range(0, len(bomb), step)) <= 50_000_000


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.jsonl.bz2", "a.jsonl.xz"])
def test_another_compression_than_the_name_says_is_read_by_its_content(
    name: str, pack: Callable[[bytes], bytes]
) -> None:
    documents, counts = read(_file(pack(b'{"text": "x"}\n'), name))
    assert [document.text for document in documents] == ["x"]
    assert counts == {"records": 1}


def test_text_under_the_name_of_a_compression_is_read_where_it_is_json_and_else_damage() -> None:
    documents, counts = read(_file(b'{"text": "x"}\n', "a.jsonl.gz"))
    assert [document.text for document in documents] == ["x"]
    for name in ("a.jsonl.gz", "a.txt.gz", "a.txt.zst", "a.jsonl.bz2", "a.jsonl.xz"):
        documents, counts = read(_file(b"some text\n", name))
        assert not documents and counts["damaged"] == 1
