"""The benchmark of curation runs, on a corpus of a few documents; its figures are for a quiet machine."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import zstandard

from tests.conftest import ROOT
from tests.corpus import docstrings


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstandard.compress(data))


def test_it_measures_what_it_is_asked_for_and_compares_it(tmp_path: Path) -> None:
    texts = docstrings(per_file=5)[:40]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    for name in ("wikipedia_en_2015/articles", "wikinews_en/articles", "arxiv_abstracts/abstracts", "peps_eips/docs"):
        _write(tmp_path / f"{name}.jsonl.zst", lines)
    page = f"<html><body><p>{texts[0]}</p></body></html>".encode()
    for folder in ("html_trafilatura", "html_article_benchmark", "html_readability"):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            member = tarfile.TarInfo("page.html")
            member.size = len(page)
            tar.addfile(member, io.BytesIO(page))
        _write(tmp_path / folder / "pages.tar.zst", archive.getvalue())
    results = ROOT / "benchmarks" / "results" / "curate.json"
    before = results.read_bytes() if results.is_file() else None
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "benchmarks" / "curate.py"), "--data", str(tmp_path), "--megabytes", "0.05",
            "--rounds", "1", "--only", "signatures 128", "rensa 128", "warc", "warc by hand",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rensa 128 is left out: no --peers" in done.stdout
    assert "warc / warc by hand: " in done.stdout and "signatures 128 " in done.stdout
    assert (results.read_bytes() if results.is_file() else None) == before  # a part is not the record
