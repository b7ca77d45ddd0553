"""Where a server elsewhere may send this machine: nowhere but to the public internet, and to what the user named."""

import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from megalith.curation.reading.read import read_documents
from megalith.errors import ResourceError
from megalith.storage import hosts, retry
from megalith.storage.hosts import RefusedError, followed, refuse_private
from tests.curation.http_server import Site, served

PRIVATE = (
    *("127.0.0.1", "localhost", "LOCALHOST.", "a.localhost", "0.0.0.0", "10.0.0.1", "172.16.5.4", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255", "[::1]", "[::]", "[fc00::1]", "[fe80::1%eth0]"),
    *("[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[fd00:ec2::254]"),
    *("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[ff02::1]"),
)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.001)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server on loopback, which names that end in .example mean, too."""
    look_up = socket.getaddrinfo

    def found(host: Any, *arguments: Any, **options: Any) -> Any:
        return look_up("127.0.0.1" if str(host).endswith(".example") else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", found)
    (tmp_path / "a.txt").write_text("The harbour was dredged.")
    with served(tmp_path) as one:
        yield one


def _read(address: str) -> list[str | None]:
    return [document.text for document in read_documents(address, Counter())]


@pytest.mark.parametrize("host", PRIVATE)
def test_no_redirect_leads_to_a_private_address(host: str) -> None:
    with pytest.raises(RefusedError, match="no public address"):
        followed("https://data.example/a", "https://data.example/a", f"https://{host}/latest/meta-data/")


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1111]", "commoncrawl.org", "1.example", "localhost.example"])
def test_public_addresses_and_names_are_followed(host: str) -> None:
    assert followed("https://data.example/a", "https://data.example/a", f"https://{host}/b") == f"https://{host}/b"


def test_a_redirect_goes_to_a_public_address_or_where_the_user_pointed() -> None:
    assert followed("http://127.0.0.1:8000/a", "http://127.0.0.1:8000/a", "/b") == "http://127.0.0.1:8000/b"
    assert followed("http://10.0.0.1/a", "http://public.example/", "http://10.0.0.1/c") == "http://10.0.0.1/c"
    with pytest.raises(RefusedError, match="no public address"):
        followed("http://127.0.0.1:8000/a", "http://127.0.0.1:8000/a", "http://169.254.169.254/latest")


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("http://data.example/a", "from https:// to http://"),
        ("file:///etc/passwd", "no address of the web"),
        ("s3://bucket/key", "no address of the web"),
    ],
)
def test_a_redirect_keeps_to_the_web_and_its_encryption(location: str, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        followed("https://data.example/a", "https://data.example/a", location)


def test_a_source_on_this_machine_is_read_where_the_user_named_it(site: Site) -> None:
    site.moved["/b.txt"] = "/a.txt"
    for name in ("a.txt", "b.txt"):
        assert _read(site.address + name) == ["The harbour was dredged."]


def test_a_server_elsewhere_cannot_have_this_machine_ask_itself(site: Site) -> None:
    site.moved["/b.txt"] = f"{site.address}a.txt"
    public = site.address.replace("127.0.0.1", "public.example")
    assert _read(f"{public}a.txt") == ["The harbour was dredged."]  # named by the user, whatever the name means
    site.asked.clear()
    with pytest.raises(ResourceError, match=r"redirects to 127\.0\.0\.1, which is no public address"):
        _read(f"{public}b.txt")
    assert len(site.asked) == 1


def test_a_name_that_means_a_private_address_is_refused_when_the_connection_stands(site: Site) -> None:
    """Names are looked up twice, and a hostile one may mean something else the second time (DNS rebinding)."""
    site.moved["/b.txt"] = site.address.replace("127.0.0.1", "other.example") + "a.txt"
    public = site.address.replace("127.0.0.1", "public.example")
    with pytest.raises(ResourceError, match=r"redirects to 127\.0\.0\.1, which is no public address"):
        _read(f"{public}b.txt")
    assert len(site.asked) == 1


def test_redirects_without_end_are_given_up(site: Site) -> None:
    site.moved["/b.txt"] = "/b.txt"
    with pytest.raises(ResourceError, match="redirects more than 5 times"):
        _read(f"{site.address}b.txt")


def test_a_number_is_an_address_in_any_form_and_a_name_is_not() -> None:
    assert hosts._number("0x7f.1") and hosts._number("::1") and not hosts._number("a.com")
    refuse_private("93.184.216.34")
