"""Files behind http: read as if they lay here, whatever servers and networks do in between."""

import gzip
import itertools
import json
import os
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.curation.corpus import read_units
from megalith.curation.corpus.read_units import Unit, datasets_of, units_of
from megalith.curation.reading.opening import open_file
from megalith.curation.reading.read import read_documents
from megalith.curation.reading.remote import RemoteFile, address_of
from megalith.curation.reading.remote_sources import find_remote
from megalith.errors import InputError, ResourceError, UnsupportedError
from megalith.recipe import CurateConfig
from megalith.recipe.data import DatasetConfig
from megalith.storage import retry
from tests.curation.http_server import Site
from tests.curation.reading.remote_sites import URLS, read, site, small_and_impatient
from tests.curation.warcs import members, page

__all__ = ["site", "small_and_impatient"]  # fixtures


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """A WARC of 60 pages, some ten times what is fetched at once."""
    content = b"".join(members([page(number, 1000) for number in range(60)]))
    (tmp_path / "a.warc.gz").write_bytes(content)
    return content


@pytest.mark.parametrize(
    "faults",
    [
        [],
        ["status:503", "status:429", "status:500"],
        ["", "drop:0", "drop:500", "drop:700", "", "drop:3"],
        ["", "hang up", "hang up", "", "hang up"],
        ["", "short length:300", "", "short length:1"],
        ["", "long length:300", "", "long length:1"],
    ],
    ids=["nothing", "busy", "dropped", "hung up", "length too short", "length too long"],
)
@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_a_file_arrives_whole_whatever_goes_wrong_on_the_way(
    site: Site, archive: bytes, faults: list[str], ranges: bool
) -> None:
    site.faults, site.ranges = list(faults), ranges
    if not ranges:
        site.faults = [fault for fault in faults if "length" not in fault]  # the length is all there is to go by
    with RemoteFile(f"{site.address}a.warc.gz") as file:
        assert file.read() == archive
    assert not ranges or not site.faults


def test_a_connection_that_breaks_is_taken_up_at_the_byte_it_had_reached(site: Site, archive: bytes) -> None:
    site.faults = ["", "", "drop:1500"]
    with RemoteFile(f"{site.address}a.warc.gz") as file:
        assert file.read() == archive
    assert site.sent_bytes <= len(archive) + 1 + 2 * 131_072  # what urllib3 held when the connection broke comes again


def test_a_server_without_ranges_is_asked_once_for_a_file_read_in_order(site: Site, archive: bytes) -> None:
    site.ranges = False
    assert read(f"{site.address}a.warc.gz") == (URLS, {"records": 60})
    assert len(site.asked) == 2  # one was to learn of its size


def test_redirects_are_followed(site: Site, archive: bytes) -> None:
    assert read(f"{site.address}moved/a.warc.gz") == (URLS, {"records": 60})


def test_a_page_damaged_on_the_server_costs_one_page(site: Site, tmp_path: Path) -> None:
    written = members([page(number, 1000) for number in range(60)])
    hurt = bytearray(written[31])
    hurt[len(hurt) // 2] ^= 0xFF
    written[31] = bytes(hurt)
    (tmp_path / "a.warc.gz").write_bytes(b"".join(written))
    urls, counts = read(f"{site.address}a.warc.gz")
    assert urls == URLS[:31] + URLS[32:]
    assert counts == {"records": 60, "damaged": 1} or counts == {"records": 59, "damaged": 1}


def test_a_server_that_stays_away_ends_in_an_error_that_keeps_what_was_done(site: Site, archive: bytes) -> None:
    site.faults = ["", "", *["status:503"] * 50]
    with pytest.raises(ResourceError, match=r"503.*same command") as raised:
        read(f"{site.address}a.warc.gz")
    assert raised.value.leaves_whole
    assert len(site.asked) == 2 + 4


def test_a_file_that_is_not_there_is_not_asked_for_again(site: Site) -> None:
    with pytest.raises(ResourceError, match="404"):
        find_remote(f"{site.address}b.warc.gz")
    assert len(site.asked) == 1
    with pytest.raises(ResourceError, match="refused"):
        find_remote("http://127.0.0.1:1/b.warc.gz")


def test_a_file_that_changes_while_it_is_read_is_an_error(site: Site, tmp_path: Path) -> None:
    archive = b"".join(members([page(number, 20_000) for number in range(20)]))
    (tmp_path / "a.warc.gz").write_bytes(archive)
    documents = read_documents(f"{site.address}a.warc.gz", Counter())
    next(documents)
    (tmp_path / "a.warc.gz").write_bytes(archive[::-1])
    with pytest.raises(InputError, match="changed"):
        list(documents)


def test_a_file_that_becomes_shorter_while_it_is_read_has_changed_too(site: Site, tmp_path: Path) -> None:
    archive = b"".join(members([page(number, 20_000) for number in range(20)]))
    (tmp_path / "a.warc.gz").write_bytes(archive)
    documents = read_documents(f"{site.address}a.warc.gz", Counter())
    next(documents)
    (tmp_path / "a.warc.gz").write_bytes(archive[:100])
    with pytest.raises(InputError, match="changed"):
        list(documents)


def test_a_stream_without_a_length_is_refused(site: Site, archive: bytes, tmp_path: Path) -> None:
    site.ranges, site.length = False, False
    with pytest.raises(UnsupportedError, match="how long"):
        find_remote(f"{site.address}a.warc.gz")


def test_every_kind_of_file_is_read(site: Site, tmp_path: Path) -> None:
    texts = [f"{number} {os.urandom(200).hex()}" for number in range(100)]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "a b.txt").write_text("Grüße")
    (tmp_path / "empty.txt").touch()
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=10)
    for name in ("a.jsonl", "a.jsonl.gz", "a.parquet"):
        found = [document.text for document in read_documents(f"{site.address}{name}?key=x", Counter())]
        assert found == texts, name
    assert [document.text for document in read_documents(f"{site.address}a%20b.txt", Counter())] == ["Grüße"]
    counts: Counter[str] = Counter()
    assert not list(read_documents(f"{site.address}empty.txt", counts))
    assert counts == {"records": 1, "no_text": 1}


def test_parts_of_a_file_make_up_the_whole(site: Site, archive: bytes, tmp_path: Path) -> None:
    lines = b"".join(json.dumps({"text": "x" * 300, "url": url}).encode() + b"\n" for url in URLS)
    (tmp_path / "a.jsonl").write_bytes(lines)
    table = pa.table({"text": ["x"] * 60, "url": URLS})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    for name, ends in (
        ("a.warc.gz", (0, 7001, 7002, 41_000, 10**6)),
        ("a.jsonl", (0, 999, 10**6)),
        ("a.parquet", (0, 4, 6)),
    ):
        found = [
            document.url
            for part in itertools.pairwise(ends)
            for document in read_documents(f"{site.address}{name}", Counter(), part)
        ]
        assert found == URLS, name


def test_a_part_fetches_little_more_than_itself(site: Site, archive: bytes) -> None:
    list(read_documents(f"{site.address}a.warc.gz", Counter(), (20_000, 22_000)))
    assert site.sent_bytes < 60_000 < len(archive)


def test_a_snapshot_is_read_by_its_list_of_paths(site: Site, tmp_path: Path) -> None:
    _serve_snapshot(tmp_path)
    source = f"cc:CC-MAIN-2021-04?base={site.address}"
    files = find_remote(Path(source))  # as the command line gives it, with a slash less
    assert [file.name for file in files] == [
        f"crawl-data/CC-MAIN-2021-04/segments/1/warc/{n}.warc.gz" for n in range(9)
    ]
    assert len(site.asked) == 1 + 1  # size and content of the list: no file is asked for yet
    assert [read(file.address)[0] for file in files] == [[f"http://example.org/{n}"] for n in range(9)]
    assert [file.name[-10:] for file in find_remote(f"{source}&paths=2:5")] == [f"/{n}.warc.gz" for n in (2, 3, 4)]
    assert len(find_remote(f"{source}&first=2")) == 2
    (wet,) = find_remote(f"{source}&wet&first=1")
    assert [document.text for document in read_documents(wet.address, Counter())] == ["Grüße"]


def test_a_sample_of_a_snapshot_is_drawn_by_its_seed_and_grows(site: Site, tmp_path: Path) -> None:
    _serve_snapshot(tmp_path)
    drawn = {
        (count, seed): [
            file.name for file in find_remote(f"cc:CC-MAIN-2021-04?base={site.address}&sample={count}&seed={seed}")
        ]
        for count in (3, 6)
        for seed in (1, 2)
    }
    assert len(drawn[3, 1]) == 3 and set(drawn[3, 1]) < set(drawn[6, 1])
    assert drawn[6, 1] == sorted(drawn[6, 1])
    assert drawn[6, 1] != drawn[6, 2]


@pytest.mark.parametrize("wrong", ["?sampel=3", "?first=x", "?paths=1", "?paths=100:200", "?wet&warc"])
def test_a_snapshot_that_is_named_wrongly_is_refused(site: Site, tmp_path: Path, wrong: str) -> None:
    _serve_snapshot(tmp_path)
    with pytest.raises(InputError):
        find_remote(f"cc:CC-MAIN-2021-04{wrong}&base={site.address}")


def test_a_list_of_paths_that_is_cut_off_is_refused(site: Site, tmp_path: Path) -> None:
    _serve_snapshot(tmp_path)
    paths = tmp_path / "crawl-data/CC-MAIN-2021-04/warc.paths.gz"
    paths.write_bytes(paths.read_bytes()[:-9])
    with pytest.raises(InputError, match="damaged"):
        find_remote(f"cc:CC-MAIN-2021-04?base={site.address}")


def _read_units(sources: list[Path], config: CurateConfig) -> list[list[str | None]]:
    made = units_of(datasets_of(sources, config))
    assert [Unit.of(json.loads(json.dumps(unit.task))) for unit in made] == made
    return [
        [document.url for piece in unit.pieces for document in read_documents(piece.path, Counter(), piece.part)]
        for unit in made
    ]


def test_remote_files_are_cut_into_units_as_local_ones_are(
    site: Site, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_units, "FEWEST_BYTES", 1000)
    (tmp_path / "a.jsonl").write_bytes(
        b"".join(json.dumps({"text": "x" * 300, "url": url}).encode() + b"\n" for url in URLS)
    )
    pq.write_table(pa.table({"text": ["x" * 300] * 60, "url": URLS}), tmp_path / "a.parquet", row_group_size=5)
    for name in ("a.warc.gz", "a.jsonl", "a.parquet"):
        here = _read_units([tmp_path / name], CurateConfig())
        assert _read_units([Path(f"{site.address}{name}")], CurateConfig()) == here
        assert len(here) > 5 and [url for unit in here for url in unit] == URLS


def test_each_path_of_a_snapshot_is_a_unit_and_takes_the_name_of_its_dataset(site: Site, tmp_path: Path) -> None:
    _serve_snapshot(tmp_path)
    source = f"cc:CC-MAIN-2021-04?first=3&base={site.address}"
    assert _read_units([Path(source)], CurateConfig()) == [[url] for url in URLS[:3]]
    (alone,) = datasets_of([Path(source)], CurateConfig())
    assert alone.name == "CC-MAIN-2021-04"
    config = CurateConfig(datasets={"crawl": DatasetConfig(paths=(source,), quality=False)})
    (named,) = datasets_of([Path(path) for path in config.paths], config)
    assert (named.name, named.quality) == ("crawl", False)


def test_the_digest_of_a_remote_file_changes_with_it(site: Site, tmp_path: Path) -> None:
    digests = set()
    for content in (b"one", b"two", b"three"):
        (tmp_path / "a.txt").write_bytes(content)
        digests |= {file.digest for _ in range(2) for file in find_remote(f"{site.address}a.txt")}
    assert len(digests) == 3


def test_addresses_are_told_from_paths() -> None:
    assert address_of(Path("https://example.org/a.warc.gz")) == "https://example.org/a.warc.gz"
    assert address_of(Path("cc:CC-MAIN-2021-04?base=s3://commoncrawl/")) == "cc:CC-MAIN-2021-04?base=s3://commoncrawl"
    assert address_of("data/a.warc.gz") is None and address_of(Path("https/a.txt")) is None


def test_any_place_can_be_read_at_any_time(site: Site, tmp_path: Path) -> None:
    draw = random.Random(1)
    content = draw.randbytes(200_000)
    (tmp_path / "a.txt").write_bytes(content)
    with RemoteFile(f"{site.address}a.txt") as file:
        at = 0
        for _ in range(300):
            at = draw.choice([at, at, at + 500, at + 20_000, draw.randrange(len(content))])
            count = draw.randint(0, 6000)
            file.seek(at)
            assert (file.read(count) or b"") == content[at : at + count][: file.tell() - at]
            assert file[at : at + count] == content[at : at + count]
            at = file.tell()


def test_a_mark_is_found_wherever_it_lies(site: Site, tmp_path: Path) -> None:
    content = bytearray(50_000)
    places = [0, 1022, 1023, 1024, 5_119, 20_000, 49_996]
    for place in places:
        content[place : place + 4] = b"MARK"
    (tmp_path / "a.txt").write_bytes(content)
    found, at = [], -1
    with RemoteFile(f"{site.address}a.txt") as file:
        while (at := file.find(b"MARK", at + 1, len(content))) >= 0:
            found.append(at)
        assert file[1020:1030] == content[1020:1030] and file[-4:] == b"MARK" and file[60_000:] == b""
        assert found == [at for at in range(len(content)) if content[at : at + 4] == b"MARK"]


def test_compressed_text_is_opened_behind_an_address(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.txt.GZ").write_bytes(gzip.compress(b"text"))
    with open_file(f"{site.address}a.txt.GZ") as file:
        assert file.read() == b"text"


def _serve_snapshot(root: Path) -> None:
    """Common Crawl's layout: a list of paths of each kind, and the files."""
    place = root / "crawl-data/CC-MAIN-2021-04"
    for kind in ("warc", "wet"):
        (place / "segments/1" / kind).mkdir(parents=True)
    for number, record in enumerate(members([page(number) for number in range(9)])):
        (place / f"segments/1/warc/{number}.warc.gz").write_bytes(record)
    record = "WARC/1.0\r\nWARC-Type: conversion\r\nContent-Length: 7\r\n\r\nGrüße\r\n\r\n".encode()
    (place / "segments/1/wet/0.warc.wet.gz").write_bytes(gzip.compress(record))
    for kind, files in (("warc", [f"{number}.warc.gz" for number in range(9)]), ("wet", ["0.warc.wet.gz"])):
        paths = "".join(f"crawl-data/CC-MAIN-2021-04/segments/1/{kind}/{file}\n" for file in files)
        (place / f"{kind}.paths.gz").write_bytes(gzip.compress(paths.encode()))


def test_a_server_that_trickles_has_a_time_limit(site: Site, archive: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(retry, "SLOWEST_BYTES_PER_SECOND", 10**9)
    site.faults = ["", *["trickle:20"] * 50]
    with pytest.raises(ResourceError, match="the server is too slow"):
        read(f"{site.address}a.warc.gz")
