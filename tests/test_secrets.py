"""Secrets in addresses are masked at every border, and nothing else is."""

import json
import os
from pathlib import Path

import pytest

from megalith.curation import curate
from megalith.errors import InputError, MegalithError
from megalith.recipe import load_recipe
from megalith.secrets import masked
from tests.corpus import docstrings
from tests.curation.http_server import served


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:pa@ss@host/x?a=1", "https://***@host/x?a=1"),
        ("https:/user:pass@host/x", "https:/***@host/x"),  # as a Path spells it
        ("https://TOKEN@host/x", "https://***@host/x"),
        ("s3://KEY:se/cr+et@bucket/k?region=x", "s3://***@bucket/k?region=x"),
        ("https://h/x?X-Amz-Signature=ab&X-Amz-Credential=K%2F1&ok=1", "https://h/x?X-Amz-Signature=***&X-Amz-Credential=***&ok=1"),
        ("https://h/x?sv=1&sig=a%2Fb", "https://h/x?sv=1&sig=***"),
        ("https://h/x?AWSAccessKeyId=A&Signature=b&Expires=1", "https://h/x?AWSAccessKeyId=***&Signature=***&Expires=1"),
        ("https://h/x?X-Goog-Signature=b&access_key=c;d#token=d", "https://h/x?X-Goog-Signature=***&access_key=***#token=***"),
        ("cc:CC-MAIN-2021-04?base=https://u:p@mirror/&wet", "cc:CC-MAIN-2021-04?base=https://***@mirror/&wet"),
        ("cc:X?base=https%3A%2F%2Fu%3Ap%40mirror%2F", "cc:X?base=https%3A%2F%2F***%40mirror%2F"),
    ],
)  # fmt: skip
def test_what_grants_access_is_masked_in_an_address_and_around_it(address: str, shown: str) -> None:
    assert masked(address) == shown
    assert masked(f"it says: {address} is gone") == f"it says: {shown} is gone"
    assert masked({"sources": [address], address: (1, None)}) == {"sources": [shown], shown: (1, None)}
    error = MegalithError(f"{address} is gone", where=address, mend=f"See {address}")
    assert str(error) == f"{shown}: {shown} is gone See {shown}"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "https://host:8080/@user/x?paths=1:2&seed=3",
            "/data/a=b/c.jsonl",
            "user@host",
            "cc:CC?wet&sample=10&first=1",
        ),
        *("s3://bucket/a@b?region=eu&endpoint_override=127.0.0.1:9&scheme=http", "a monkey=2", "key=1", ""),
    ],
)
def test_what_grants_nothing_is_shown_as_it_is(text: str) -> None:
    assert masked(text) == text


def test_no_file_of_a_curation_holds_the_secrets_of_its_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    texts = [text for text in docstrings() if 1500 < len(text) < 10_000][:30]
    recipe, _ = load_recipe("quickstart", ["curate.validation_share=0.2", "curate.task_items.most=5"])
    (tmp_path / "web").mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / "web" / name).write_text(lines)
    with served(tmp_path / "web") as site:
        host = site.address.replace("http://", "http://user:S3CRETWORD@")
        one, other = (Path(f"{host}{name}?X-Amz-Signature=S3CRETSIGN") for name in ("a.jsonl", "b.jsonl"))
        made = curate(recipe, tmp_path / "out" / "curate", [one, other])
        again = curate(recipe, tmp_path / "two" / "curate", [Path(str(one).replace("SIGN", "OTHER")), other])
        with pytest.raises(InputError) as refused:
            curate(recipe, tmp_path / "three", [Path(f"{host}c.xyz?token=S3CRETSIGN")])
    assert "S3CRET" not in str(refused.value)
    files = [Path(folder) / name for folder, _, names in os.walk(tmp_path / "out") for name in names]
    assert len(files) > 10
    assert [file for file in files if b"S3CRET" in file.read_bytes()] == []
    inputs = made.manifest.inputs["documents"], again.manifest.inputs["documents"]
    assert inputs[0] and made.facts["documents_in"] == 60  # sources that differ in a secret alone are two sources
