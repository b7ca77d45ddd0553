"""The optional corpora, as tests read them."""

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import zstandard

DATA = Path(os.environ.get("MEGALITH_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def lines(name: str, most: int) -> Iterator[str]:
    """The first texts of a corpus."""
    with (DATA / "corpora" / f"{name}.jsonl.zst").open("rb") as file:
        stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(file)
        held = b""
        while most and (data := stream.read(1 << 20)):
            *whole, held = (held + data).split(b"\n")
            for line in whole[:most]:
                yield json.loads(line)["text"]
            most -= min(most, len(whole))


def pages(folder: str) -> Iterator[tuple[bytes, str | None, str | None]]:
    """HTML, charset and language of each page, the latter two as it names them itself."""
    place = DATA / "corpora" / folder
    facts = {row["file"]: row for row in map(json.loads, (place / "index.jsonl").read_text().splitlines())}
    with (place / "pages.tar.zst").open("rb") as file:
        stream = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(file)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                row = facts.get(member.name.removeprefix("./"))
                if row is not None and (held := archive.extractfile(member)) is not None:
                    yield held.read(), row["charset"], row["lang"]
