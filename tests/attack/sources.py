"""Fuzzed sources: WARC, WET, ARC, JSON lines, Parquet, text, HTML, plain and compressed; lists of URLs; task texts.

Good documents stand beside what is wrong. Where a run ends well, the counts must add up (read = kept + dropped), and
where the same documents came in another wrapping, the same texts must come out.
"""

import contextlib
import gzip
import io
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attack.cases import Found, judge
from tests.attack.command import Ended, run
from tests.attack.materials import Materials, documents, write_lines
from tests.attack.mutate import STRANGE, change_bytes
from tests.attack.server import WAYS, serving
from tests.attack.texts import CHARSETS, page, slow

PART = "sources"
GOOD = 24
CPU_SECONDS = 120
NEVER_REFUSED = ("slow texts", "pages in WARC", "other wrapping", "text and HTML")
"""Where good documents stand beside what cannot be used, which must be passed over and counted."""
SECRET = "hunter2hunter2"
HEAVY_CHARACTERS = (10_000, 100_000, 1_000_000)


class Sources:
    """The cases of this part."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        self.good = documents(random.Random(2), GOOD)
        self.kinds: dict[str, Callable[[random.Random, Path], list[str]]] = {
            "JSON lines": self._json_lines,
            "slow texts": self._slow_texts,
            "pages in WARC": self._pages,
            "damaged WARC": self._damaged_warc,
            "other wrapping": self._wrapping,
            "Parquet": self._parquet,
            "text and HTML": self._plain_files,
            "lists of URLs": self._lists,
            "task texts": self._tasks,
            "names": self._names,
            "a bad server": self._server,
        }

    def __call__(self, number: int, dice: random.Random, room: Path) -> Found:
        kind = list(self.kinds)[number % len(self.kinds)]
        with contextlib.ExitStack() as until_the_end:
            self.until_the_end = until_the_end
            more = self.kinds[kind](dice, room)
            argv = ["curate", str(self.materials.recipe), "--output", "out", "--json", *more]
            ended = run(argv, room, cpu_seconds=CPU_SECONDS, wall_seconds=900)

        def right(ended: Ended) -> str | None:
            return counts_agree(ended) or (self._same_texts(room) if kind == "other wrapping" else None)

        verdict, detail = judge(ended, right)
        if verdict == "refused" and kind in NEVER_REFUSED:
            verdict, detail = "wrong", f"good documents are refused for the sake of others: {detail}"
        if SECRET in ended.said or any(SECRET in path.read_text(errors="replace") for path in _told(room)):
            verdict, detail = "wrong", f"a secret of an address is told: {detail}"
        return Found(PART, kind, number, verdict, detail[:1500], tuple(map(ascii, argv)))

    def _json_lines(self, dice: random.Random, room: Path) -> list[str]:
        lines = [json.dumps(row).encode() for row in self.good]
        for _ in range(dice.choice((1, 5, 30))):
            row: dict[str, Any] = {
                "text": dice.choice(STRANGE),
                "url": dice.choice(STRANGE),
                "id": dice.choice(STRANGE),
            }
            if dice.random() < 0.3:
                row = {dice.choice(("content", "meta", "metadata", "text")): dice.choice((row, [row], STRANGE[3]))}
            lines.insert(dice.randrange(len(lines)), json.dumps(row).encode())
        for _ in range(dice.choice((0, 3))):
            bad = dice.choice(
                (b"", b"\xff\xfe", b"{", b"[" * 50_000, b'{"text":"\xff"}', b"9" * 5000, b"null", b"\x00" * 99)
            )
            lines.insert(dice.randrange(len(lines)), bad)
        data = dice.choice((b"\n", b"\r\n")).join(lines)
        name = dice.choice(("x.jsonl", "x.jsonl", "x.jsonl.gz", "x.jsonl.zst", "x.ndjson", "x.json"))
        data = _packed(name, data)
        (room / name).write_bytes(change_bytes(data, dice) if dice.random() < 0.5 else data)
        return ["--source", name]

    def _slow_texts(self, dice: random.Random, room: Path) -> list[str]:
        rows = [*self.good, *({"text": slow(dice, dice.choice(HEAVY_CHARACTERS))} for _ in range(10))]
        write_lines(room / "x.jsonl", rows)
        masks = [f"curate.private.{name}=true" for name in ("emails", "ip_addresses", "phone_numbers", "keys")]
        return ["--source", "x.jsonl", *(masks if dice.random() < 0.7 else [])]

    def _pages(self, dice: random.Random, room: Path) -> list[str]:
        sentence = self.good[0]["text"]
        records = [_response(f"https://a.org/{place}", row["text"].encode()) for place, row in enumerate(self.good)]
        for place in range(16):
            headers = f"Content-Type: text/html; charset={dice.choice(CHARSETS)}"
            if dice.random() < 0.3:
                headers += f"\r\nContent-Encoding: {dice.choice(('gzip', 'br', 'deflate', 'zstd', 'x', 'gzip, gzip'))}"
            if dice.random() < 0.2:
                headers += f"\r\nTransfer-Encoding: {dice.choice(('chunked', 'x'))}"
            body = page(dice, sentence)
            if dice.random() < 0.2:
                body = gzip.compress(body)
            records.append(_response(f"https://b.org/{place}", body, headers))
        dice.shuffle(records)
        name = dice.choice(("x.warc", "x.warc.gz"))
        (room / name).write_bytes(b"".join(map(gzip.compress, records)) if name.endswith("gz") else b"".join(records))
        extractor = dice.choice(("resiliparse", "resiliparse", "trafilatura", "justext"))
        return ["--source", name, f"curate.extractor={extractor}"]

    def _damaged_warc(self, dice: random.Random, room: Path) -> list[str]:
        records = [_response(f"https://a.org/{place}", row["text"].encode()) for place, row in enumerate(self.good)]
        name = dice.choice(
            ("x.warc", "x.warc.gz", "x.wet", "x.wet.gz", "x.arc", "x.arc.gz", "x.warc.zst", "x.warc.lz4")
        )
        if "wet" in name:
            records = [_record("conversion", f"https://a.org/{place}", row["text"].encode(), "text/plain")
                       for place, row in enumerate(self.good)]  # fmt: skip
        if "arc" in name and "warc" not in name:
            records = [_arc(place, row["text"]) for place, row in enumerate(self.good)]
        if dice.random() < 0.5:
            place = dice.randrange(len(records))
            records[place] = change_bytes(records[place], dice)
        data = b"".join(map(gzip.compress, records)) if name.endswith("gz") else _packed(name, b"".join(records))
        (room / name).write_bytes(change_bytes(data, dice))
        return ["--source", name]

    def _server(self, dice: random.Random, room: Path) -> list[str]:
        name = dice.choice(("x.jsonl", "x.jsonl.gz", "x.warc"))
        data = b"".join(json.dumps(row).encode() + b"\n" for row in self.good)
        if name == "x.warc":
            data = b"".join(
                _response(f"https://a.org/{place}", row["text"].encode()) for place, row in enumerate(self.good)
            )
        port = self.until_the_end.enter_context(serving(_packed(name, data), dice.choice(WAYS), dice))
        return ["--source", f"http://user:{SECRET}@127.0.0.1:{port}/{name}?X-Amz-Signature={SECRET}"]

    def _wrapping(self, dice: random.Random, room: Path) -> list[str]:
        """The good documents in a form of which the same texts must come out as of plain JSON lines."""
        rows = self.good
        write_lines(room / "plain.jsonl", rows)
        form = dice.randrange(7)
        source = room / "in"
        source.mkdir()
        lines = [json.dumps(row, ensure_ascii=bool(form % 2)).encode() for row in rows]
        if form == 0:
            (source / "x.jsonl.gz").write_bytes(b"".join(gzip.compress(line + b"\n") for line in lines))
        elif form == 1:
            (source / "x.jsonl.zst").write_bytes(b"".join(_packed("x.zst", line + b"\n") for line in lines))
        elif form == 2:
            (source / "x.jsonl").write_bytes(b"\r\n\r\n".join([b"\xff{", *lines, b"[" * 9]))
        elif form == 3:
            for place, line in enumerate(lines):
                (source / f"{place}.jsonl").write_bytes(line)
        elif form == 4:
            again = [dict(reversed(row.items())) | {"meta": {"x": place}} for place, row in enumerate(rows)]
            write_lines(source / "x.jsonl", again)
        elif form == 5:
            for place, row in enumerate(rows):
                (source / f"{place}.txt").write_text(row["text"])
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist(rows), source / "x.parquet", row_group_size=5)
        return ["--source", "in"]

    def _same_texts(self, room: Path) -> str | None:
        ended = run(["curate", str(self.materials.recipe), "--output", "plain", "--source", "plain.jsonl"], room)
        if ended.code:
            return f"plain JSON lines are refused: {ended.said[-300:]}"
        return None if _texts(room / "out") == _texts(room / "plain") else "other texts than of plain JSON lines"

    def _parquet(self, dice: random.Random, room: Path) -> list[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        texts = [row["text"] for row in self.good]
        column = dice.choice(
            (
                pa.array(texts), pa.array(texts, pa.large_string()), pa.array([text.encode() for text in texts]),
                pa.array([[text] for text in texts]), pa.array(range(GOOD)), pa.array([None] * GOOD, pa.string()),
                pa.array(texts).dictionary_encode(), pa.array([{"a": text} for text in texts]),
                pa.array([*texts[:-1], None]), pa.array(["x" * 2_000_000] * GOOD).dictionary_encode(),
            )
        )  # fmt: skip
        name = dice.choice(("text", "text", "text", "content", "body"))
        table = pa.table({name: column, "url": pa.array(range(GOOD))})
        pq.write_table(
            table, room / "x.parquet", compression=dice.choice(("snappy", "zstd", "none", "gzip")), row_group_size=7
        )
        if dice.random() < 0.6:
            (room / "x.parquet").write_bytes(change_bytes((room / "x.parquet").read_bytes(), dice))
        return ["--source", "x.parquet"]

    def _plain_files(self, dice: random.Random, room: Path) -> list[str]:
        source = room / "in"
        source.mkdir()
        write_lines(source / "good.jsonl", self.good)
        for place in range(5):
            name = f"{place}{dice.choice(('.txt', '.md', '.html', '.htm', '.txt.gz', '.html.zst', '.txt.zst'))}"
            data = page(dice, self.good[0]["text"]) if "htm" in name else slow(dice, 20_000).encode("utf-8", "replace")
            data = _packed(name, data)
            (source / name).write_bytes(change_bytes(data, dice) if dice.random() < 0.5 else data)
        return ["--source", "in"]

    def _lists(self, dice: random.Random, room: Path) -> list[str]:
        write_lines(
            room / "x.jsonl", [{**row, "url": dice.choice(URLS)} if dice.random() < 0.5 else row for row in self.good]
        )
        lines = [dice.choice((*URLS, "bad.org", "example.org/1", "#", "", "xn--", "*.a.org")) for _ in range(50)]
        data = "\n".join(lines).encode("utf-8", "surrogatepass")
        name = dice.choice(("list.txt", "list.gz", "list"))
        data = _packed(name, data)
        (room / name).write_bytes(change_bytes(data, dice) if dice.random() < 0.5 else data)
        key = dice.choice(("blocklists", "hard_words", "soft_words"))
        return ["--source", "x.jsonl", f"curate.urls.{key}=[{name}]", "curate.urls.drop_ip_hosts=true"]

    def _tasks(self, dice: random.Random, room: Path) -> list[str]:
        write_lines(room / "x.jsonl", self.good)
        rows = [{"text": dice.choice((self.good[place]["text"][:300], *STRANGE))} for place in range(10)]
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        name = dice.choice(("task.jsonl", "task.txt", "task.jsonl.gz", "task.txt.zst"))
        data = _packed(name, data)
        (room / name).write_bytes(change_bytes(data, dice) if dice.random() < 0.5 else data)
        return ["--source", "x.jsonl", f"curate.decontaminate.tasks={{mine: {{paths: [{name}]}}}}"]

    def _names(self, dice: random.Random, room: Path) -> list[str]:
        """Good documents under strange names of files and data sets."""
        name = dice.choice(
            ("x[red]", "[bold]x", "a\nb", "\udcff\udcfe", "é", "x\x1b[31m", "a b", "a'b", 'a"b', "$x", "%s")
        )
        source = room / name
        source.mkdir()
        write_lines(source / dice.choice(("x.jsonl", f"{name}.jsonl")), self.good)
        (source / "loop").symlink_to(".")
        if dice.random() < 0.5:
            return ["--source", name]
        text = json.dumps({dice.choice((name, "x[/red]", "a/b", "..", "", " ")): {"paths": [name]}})
        return [f"curate.datasets={text}"]


URLS = (
    "http://", "http://[::1", "https://user:secret@a.org/x?X-Amz-Signature=abc", "http://a.org:99999/", "javascript:x",
    "//a.org", "http://1.2.3.4/", "http://0x7f.1/", "http://[fe80::1%25en0]/", "http://é.org/", "http://xn--/",
    "\ud800", "http://a..org/", "http://" + "a" * 5000 + ".org/", "http://a.org/" + "%" * 1000, "http://a.org/\x00",
    "a b", "\x1b[31m", "HTTP://A.ORG/../..//x", "http://a.org\\@b.org/", "http://" + "a." * 3000,
)  # fmt: skip


def counts_agree(ended: Ended) -> str | None:
    """Whether every record read is kept, dropped for a reason, or counted as one that could not be read."""
    try:
        facts = json.loads(ended.out)
    except ValueError as error:
        return f"standard output is not one JSON object: {error}"
    steps = facts["steps"]
    for step in steps[1:]:
        want = step["documents_in"] - sum(step["dropped"].values()) + step["split_off"]
        if step["documents_out"] != want:
            return f"{step['name']}: {step['documents_in']} in, {step['dropped']} dropped, {step['documents_out']} out"
    for before, after in itertools.pairwise(steps):
        if before["documents_out"] != after["documents_in"]:
            return (
                f"{before['name']} lets {before['documents_out']} out and {after['name']} takes {after['documents_in']}"
            )
    if facts["documents_out"] != facts["training_documents"] + facts["validation_documents"]:
        return "kept documents are not those of both splits together"
    if steps[0]["documents_out"] < 1:
        return "nothing was read"
    return None


def _told(room: Path) -> list[Path]:
    """The files in which a curation tells what it read."""
    return [path for path in (room / "out").rglob("*.json*") if path.is_file()]


def _texts(out: Path) -> list[str]:
    import pyarrow.parquet as pq

    return sorted(
        text for file in (out / "curate").glob("*/*.parquet") for text in pq.read_table(file)["text"].to_pylist()
    )


def _packed(name: str, data: bytes) -> bytes:
    if name.endswith(".gz"):
        return gzip.compress(data)
    if name.endswith(".zst"):
        import zstandard

        return zstandard.ZstdCompressor().compress(data)
    return data


def _record(kind: str, url: str, body: bytes, content_type: str) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{abs(hash(url)) % 10**12:012d}>\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("utf-8", "surrogateescape") + body + b"\r\n\r\n"


def _response(url: str, text: bytes, headers: str = "Content-Type: text/html; charset=utf-8") -> bytes:
    if b"<html" not in text[:200] and text[:2] != b"\x1f\x8b":
        text = b"<html><body>" + b"".join(b"<p>" + part + b"</p>" for part in text.split(b"\n\n")) + b"</body></html>"
    head = f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode("utf-8", "replace")
    return _record("response", url, head + text, "application/http; msgtype=response")


def _arc(number: int, text: str) -> bytes:
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><body><p>" + text.encode() + b"</p></body></html>"
    line = io.BytesIO()
    line.write(f"http://a.org/{number} 1.2.3.4 20240101000000 text/html {len(body)}\n".encode())
    return line.getvalue() + body + b"\n"
