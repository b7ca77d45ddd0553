"""WARC files whose gzip members or zstd frames are not their records: every record once, in parts or as a whole."""

import gzip
import io
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from warcio.archiveiterator import ArchiveIterator

from megalith.curation.reading.document import BESIDE
from megalith.curation.reading.read import read_documents


def record(number: int, size: int) -> bytes:
    words = random.Random(number).choices(["salt", "lantern", "bridge", "granary", "bell"], k=size)
    page = f"<html><body>page {number} {' '.join(words)} {random.Random(number).randbytes(size).hex()}</body></html>"
    body = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{page}"
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://x.example/{number}\r\n"
        "WARC-Record-ID: <urn:uuid:12345678-1234-1234-1234-123456789012>\r\nWARC-Date: 2021-01-01T00:00:00Z\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return f"{head}{body}\r\n\r\n".encode()


RECORDS = [record(number, 20 + number * 37 % 900) for number in range(120)]
WHOLE = b"".join(RECORDS)


def blocks(content: bytes, size: int) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


LAYOUTS: dict[str, list[bytes]] = {
    "a record each": RECORDS,
    "one member": [WHOLE],
    "two members": [b"".join(RECORDS[:50]), b"".join(RECORDS[50:])],
    "pairs": [one + two for one, two in zip(RECORDS[::2], RECORDS[1::2], strict=True)],
    "blocks as bgzip makes them": blocks(WHOLE, 5000),
    "small blocks": blocks(WHOLE, 700),
    "records, then one member": [*RECORDS[:60], b"".join(RECORDS[60:])],
    "one member, then records": [b"".join(RECORDS[:60]), *RECORDS[60:]],
    "records, then pairs, then blocks": [
        *RECORDS[:40],
        *(one + two for one, two in zip(RECORDS[40:80:2], RECORDS[41:80:2], strict=True)),
        *blocks(b"".join(RECORDS[80:]), 900),
    ],
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstandard.compress}


def read(path: Path, part: tuple[int, int] | None = None) -> tuple[list[str], Counter[str]]:
    counts: Counter[str] = Counter()
    urls = [str(document.url) for document in read_documents(path, counts, part)]
    assert counts["records"] == len(urls) + sum(n for reason, n in counts.items() if reason not in BESIDE), counts
    return urls, counts


def wanted(numbers: range = range(len(RECORDS))) -> list[str]:
    return [f"http://x.example/{number}" for number in numbers]


def test_the_records_are_those_that_another_reader_finds() -> None:
    found = [one.rec_headers.get_header("WARC-Target-URI") for one in ArchiveIterator(io.BytesIO(WHOLE))]
    assert found == wanted()


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_record_comes_out_once(tmp_path: Path, layout: str, packing: str) -> None:
    path = tmp_path / f"a.warc.{packing}"
    path.write_bytes(b"".join(map(PACKERS[packing], LAYOUTS[layout])))
    urls, counts = read(path)
    assert urls == wanted()
    assert counts == {"records": len(RECORDS)}


@pytest.mark.parametrize("count", [2, 3, 17])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_parts_of_a_file_are_the_whole(tmp_path: Path, layout: str, count: int) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(b"".join(map(gzip.compress, LAYOUTS[layout])))
    size = path.stat().st_size
    ends = [size * number // count for number in range(count + 1)]
    found = [read(path, part) for part in pairwise(ends)]
    assert [url for urls, _ in found for url in urls] == wanted()
    assert sum((counts for _, counts in found), Counter()) == {"records": len(RECORDS)}


def test_behind_a_wrong_length_in_one_member_reading_goes_on(tmp_path: Path) -> None:
    hurt = [*RECORDS]
    length = RECORDS[5].partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
    hurt[5] = RECORDS[5].replace(b"Content-Length: " + length, b"Content-Length: %d" % (int(length) - 30))
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(b"".join(hurt)))
    urls, counts = read(tmp_path / "a.warc.gz")
    assert [url for url in urls if url != "http://x.example/5"] == [*wanted(range(5)), *wanted(range(6, 120))]
    assert counts["damaged"] == 1


def test_damage_of_the_compression_costs_its_member(tmp_path: Path) -> None:
    first, second = (bytearray(gzip.compress(b"".join(some))) for some in (RECORDS[:60], RECORDS[60:]))
    first[len(first) // 2 : len(first) // 2 + 40] = b"\xff" * 40
    (tmp_path / "a.warc.gz").write_bytes(first + second)
    urls, counts = read(tmp_path / "a.warc.gz")
    assert urls[-60:] == wanted(range(60, 120)) and len(urls) > 70
    assert counts["damaged"] >= 1


def test_a_member_cut_short_gives_what_came_before(tmp_path: Path) -> None:
    content = gzip.compress(WHOLE)
    (tmp_path / "a.warc.gz").write_bytes(content[: len(content) * 3 // 4])
    urls, counts = read(tmp_path / "a.warc.gz")
    assert urls == wanted(range(len(urls))) and len(urls) > 60
    assert counts["truncated"] >= 1 and not counts["damaged"]
