"""Objects of stores: listed by prefix and pattern, and read by ranges as files behind http are."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from megalith.curation.reading.read import read_documents
from megalith.curation.reading.remote import RemoteFile
from megalith.curation.reading.remote_sources import find_remote
from megalith.errors import InputError, ResourceError
from tests.curation.http_server import Site
from tests.curation.reading.remote_sites import URLS, read, site, small_and_impatient
from tests.curation.warcs import members, page

__all__ = ["site", "small_and_impatient"]  # fixtures


@pytest.fixture
def options(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment that leads Arrow to the server, which answers as S3 does; signatures are not looked at."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket/a.warc.gz").write_bytes(b"".join(members([page(number, 1000) for number in range(60)])))
    host = site.address.rstrip("/").removeprefix("http://")
    return f"endpoint_override={host}&scheme=http&region=us-east-1"


def test_an_object_of_s3_is_read_by_ranges(site: Site, tmp_path: Path, options: str) -> None:
    site.faults = ["", "drop:100", "status:503"]
    (file,) = find_remote(Path(f"s3://bucket/a.warc.gz?{options}"))
    assert file.bytes == (tmp_path / "bucket/a.warc.gz").stat().st_size and file.tag
    assert read(file.address) == (URLS, {"records": 60})
    with pytest.raises(ResourceError, match="cannot be fetched"):
        find_remote(f"s3://bucket/b.warc.gz?{options}")


def test_a_prefix_of_s3_stands_for_the_files_under_it(tmp_path: Path, options: str) -> None:
    for name in ("crawl/b c.jsonl", "crawl/deep/d.jsonl.gz", "crawl/about.json", "crawl/.hidden.jsonl", "crawl/x.exe"):
        (tmp_path / "bucket" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bucket" / name).write_text('{"text": "a"}\n')
    for prefix in ("crawl", "crawl/"):
        files = find_remote(f"s3://bucket/{prefix}?{options}")
        assert [(file.name, file.bytes) for file in files] == [("b c.jsonl", 14), ("deep/d.jsonl.gz", 14)]
    counts: Counter[str] = Counter()
    assert [document.text for document in read_documents(files[0].address, counts)] == ["a"]
    (tmp_path / "bucket/crawl/b c.jsonl").write_text("")
    assert find_remote(f"s3://bucket/crawl?{options}")[0].digest != files[0].digest
    for nothing in ("crawl/x.exe", "other"):
        with pytest.raises(InputError, match="of the 0 objects under this prefix none"):
            find_remote(f"s3://bucket/{nothing}?{options}")


class InMemory(MemoryFileSystem):
    """Stands in for the client of Google's store or of the Hub."""

    protocol = ("gs", "hf")
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).partition("://")[2].strip("/") if "://" in path else super()._strip_protocol(path)


@pytest.fixture(params=["gs", "hf"])
def stored(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The scheme of a store that holds a folder of two files of data."""
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, request.param, InMemory)
    files = InMemory()
    files.pipe("/bucket/repo/data/a.warc.gz", b"".join(members([page(number, 1000) for number in range(60)])))
    files.pipe("/bucket/repo/data/deep/b.jsonl", b'{"text": "b"}\n')
    files.pipe("/bucket/repo/data/README.exe", b"no data")
    yield request.param
    InMemory.store.clear()


def test_other_stores_are_listed_and_read_by_ranges(stored: str) -> None:
    files = find_remote(Path(f"{stored}://bucket/repo/data"))
    assert [(file.name, file.address) for file in files] == [
        (name, f"{stored}://bucket/repo/data/{name}") for name in ("a.warc.gz", "deep/b.jsonl")
    ]
    assert all(file.bytes and file.tag for file in files)
    assert read(files[0].address) == (URLS, {"records": 60})
    assert len(find_remote(f"{stored}://bucket/repo/data/a.warc.gz")) == 1
    with pytest.raises(InputError, match="no such file"):
        find_remote(f"{stored}://bucket/repo/data/c.warc.gz")


def test_a_file_of_another_store_that_changes_while_it_is_read_is_an_error(stored: str) -> None:
    with RemoteFile(f"{stored}://bucket/repo/data/a.warc.gz") as file:
        file.read(10)
        InMemory().pipe("/bucket/repo/data/a.warc.gz", b"short")
        with pytest.raises(InputError, match="changed while it was read"):
            file[-10:]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("*.warc.gz", ["a.warc.gz"]), ("**/*.jsonl", ["deep/b.jsonl"]), ("d*/*.jsonl", ["deep/b.jsonl"])],
)
def test_a_pattern_stands_for_the_files_that_fit_it(stored: str, pattern: str, names: list[str]) -> None:
    found = find_remote(f"{stored}://bucket/repo/data/{pattern}")
    assert [file.address.partition("data/")[2] for file in found] == names
    for wrong, complaint in (("*.parquet", "no object fits"), ("*.exe", "not a kind of file")):
        with pytest.raises(InputError, match=complaint):
            find_remote(f"{stored}://bucket/repo/data/{wrong}")


def test_a_pattern_of_s3_is_listed_by_arrow(tmp_path: Path, options: str) -> None:
    (tmp_path / "bucket/part-1.jsonl").write_text('{"text": "a"}\n')
    (file,) = find_remote(f"s3://bucket/part-*.jsonl?{options}")
    counts: Counter[str] = Counter()
    assert [document.text for document in read_documents(file.address, counts)] == ["a"]
