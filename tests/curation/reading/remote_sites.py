"""A server with small fetches and little patience, for tests of files behind addresses."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from megalith.curation.reading import remote
from megalith.curation.reading.read import read_documents
from megalith.storage import retry
from tests.curation.http_server import Site, served


@pytest.fixture(autouse=True)
def small_and_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(retry, "ATTEMPTS", 4)
    monkeypatch.setattr(remote, "FIRST_BYTES", 1 << 10)
    monkeypatch.setattr(remote, "MOST_BYTES", 1 << 14)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with served(tmp_path) as site:
        yield site


def read(address: str) -> tuple[list[str | None], Counter[str]]:
    counts: Counter[str] = Counter()
    return [document.url for document in read_documents(address, counts)], counts


URLS = [f"http://example.org/{number}" for number in range(60)]
