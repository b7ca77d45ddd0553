"""The quickstart's own web crawl: the pydoc pages of this machine's installed Python modules, as WARC files.

`modules.py` finds the modules without importing any; `render.py` imports them, a chunk of one package to each fresh
interpreter. So a page depends on its chunk, not on how many workers there were or what they did before, and two crawls
of one machine give the same bytes. A chunk that is finished stays for the next attempt if this one is killed.
"""

import json
import os
import shutil
import signal
import site
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from io import BytesIO
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from megalith.artifacts import Artifact, Workspace, produce
from megalith.console import progress
from megalith.curation.crawling.modules import Chunk, find_modules, machine_digest, order
from megalith.curation.crawling.render import IDLE
from megalith.errors import ResourceError
from megalith.input_files import real_path
from megalith.recipe import CrawlConfig, Recipe

VERSION = 1
PAGES_PER_FILE = 400
MINIMUM_PAGES = 20
"""Fewer than this is no corpus: something is wrong with this Python."""
CHUNKS_AHEAD = 4
"""Per worker: a slow chunk does not keep the others waiting."""

RENDER = Path(__file__).with_name("render.py")
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONWARNINGS": "ignore",
    "PYTHONUSERBASE": site.getuserbase(),
    "MPLBACKEND": "Agg",
    "CUDA_VISIBLE_DEVICES": "",
    "DO_NOT_TRACK": "1",
    "DAFT_ANALYTICS_ENABLED": "0",
    "SCARF_NO_ANALYTICS": "true",
    "HF_HUB_OFFLINE": "1",
    **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "RAYON", "NUMBA")},
}
INHERITED = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Without which some Pythons do not start."""


class Page(NamedTuple):
    """One rendered page."""

    url: str
    html: bytes
    date: str


def crawl(recipe: Recipe, path: Path) -> Artifact:
    """Render up to `crawl.maximum_pages` pages into `pages-00000.warc.gz`, … and return the artifact.

    Raises ResourceError when hardly any module of this Python can be rendered.
    """
    chunks = order(find_modules(), recipe.seed)
    return produce(
        path,
        stage="crawl",
        settings={"crawl": recipe.crawl.model_dump(mode="json", exclude={"workers"}), "version": VERSION},
        inputs={},
        recorded={"inputs.modules": machine_digest(chunks)},  # a finished crawl stands when a package is installed
        seed=recipe.seed,
        build=lambda workspace: _build(workspace, recipe.crawl, chunks),
    )


def _build(workspace: Workspace, config: CrawlConfig, chunks: Sequence[Chunk]) -> dict[str, Any]:
    start = time.monotonic()
    spool = real_path(workspace.path) / "spool"
    spool.mkdir(exist_ok=True)
    for left in workspace.path.glob("pages-*.warc.gz"):  # of an earlier attempt, which may have had more pages
        left.unlink()
    skipped: Counter[str] = Counter()
    pages = html_bytes = 0
    with progress() as display, closing(_rendered(spool, config, chunks)) as rendered:
        bar = display.add_task("crawling the documentation", total=config.maximum_pages)
        wanted = islice(_pages(rendered, skipped), config.maximum_pages)
        for number in count():
            first = next(wanted, None)
            if first is None:
                break
            name = f"pages-{number:05d}.warc.gz"
            with workspace.file(name) as path, path.open("wb") as file:
                writer = WARCWriter(file, gzip=True)
                _write_information(writer, name, first.date)
                for page in chain([first], islice(wanted, PAGES_PER_FILE - 1)):
                    _write_page(writer, page)
                    pages += 1
                    html_bytes += len(page.html)
                    display.update(bar, completed=pages)
    if pages < min(MINIMUM_PAGES, config.maximum_pages):
        reasons = ", ".join(f"{number} × {reason}" for reason, number in skipped.most_common())
        raise ResourceError(
            f"only {pages} modules of this Python could be rendered ({reasons or 'no module was found'}).",
            where=sys.executable,
            mend="Set curate.sources to documents of your own, or raise crawl.seconds_per_module.",
        )
    shutil.rmtree(spool)
    return {
        "pages": pages,
        "bytes": html_bytes,
        "skipped": dict(sorted(skipped.items())),
        "modules_seen": pages + skipped.total(),
        "seconds": round(time.monotonic() - start, 3),
    }


def _pages(rendered: Iterable[tuple[dict[str, Any], Path | None]], skipped: Counter[str]) -> Iterator[Page]:
    for line, source in rendered:
        if "html" in line:
            yield Page(f"http://localhost/{line['module']}.html", line["html"].encode(errors="replace"), _date(source))
        else:
            skipped[line["skipped"]] += 1


def _date(source: Path | None) -> str:
    """When the module was installed: the crawl's own time would make every crawl another."""
    seconds = int((source or Path(os.__file__)).stat().st_mtime)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _write_information(writer: WARCWriter, name: str, date: str) -> None:
    fields = "software: megalith\r\nformat: WARC File Format 1.0\r\n"
    fields += f"description: pydoc pages of the installed modules of Python {sys.version.split()[0]}\r\n"
    headers = {"WARC-Record-ID": _record_id(name, fields.encode()), "WARC-Date": date, "WARC-Filename": name}
    payload = BytesIO(fields.encode())
    writer.write_record(
        writer.create_warc_record(
            "", "warcinfo", payload=payload, length=len(fields.encode()), warc_headers_dict=headers
        )
    )


def _write_page(writer: WARCWriter, page: Page) -> None:
    length = str(len(page.html))
    http = StatusAndHeaders(
        "200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", length)], protocol="HTTP/1.1"
    )
    headers = {"WARC-Record-ID": _record_id(page.url, page.html), "WARC-Date": page.date}
    writer.write_record(
        writer.create_warc_record(
            page.url, "response", payload=BytesIO(page.html), http_headers=http, warc_headers_dict=headers
        )
    )


def _record_id(name: str, content: bytes) -> str:
    return uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, name), content.hex()).urn


def _rendered(
    spool: Path, config: CrawlConfig, chunks: Sequence[Chunk]
) -> Generator[tuple[dict[str, Any], Path | None]]:
    """Yield the outcome of each module in order; chunks are rendered ahead, `config.workers` at a time."""
    rest = iter(chunks)
    waiting: deque[tuple[Chunk, Future[Path]]] = deque()
    renderer = _Renderer(spool, config)
    pool = ThreadPoolExecutor(config.workers)  # its threads only wait for the processes
    try:
        while True:
            for chunk in islice(rest, CHUNKS_AHEAD * config.workers - len(waiting)):
                waiting.append((chunk, pool.submit(renderer.render, machine_digest([chunk])[:32], chunk)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            with future.result().open("rb") as lines:
                for line, (_, source) in zip(lines, chunk, strict=True):
                    yield json.loads(line), source
    finally:
        renderer.stop()
        pool.shutdown(cancel_futures=True)


class _Renderer:
    """The processes that are rendering now."""

    def __init__(self, spool: Path, config: CrawlConfig) -> None:
        self._spool = spool
        self._config = config
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def render(self, name: str, chunk: Chunk) -> Path:
        """A file with a line of JSON for each module of the chunk; one that stands there whole is used."""
        whole = self._spool / f"{name}.jsonl"
        if whole.exists():
            return whole
        torn = self._spool / f".{name}.jsonl.tmp"
        torn.unlink(missing_ok=True)
        modules = [module for module, _ in chunk]
        done = 0
        while done < len(modules):
            took_too_long = self._run(torn, modules[done:])
            lines = torn.read_bytes().splitlines(keepends=True) if torn.exists() else []
            lines = [line for line in lines if line.endswith(b"\n")]
            if len(lines) < len(modules):  # the next one took the process with it
                reason = "took too long" if took_too_long else "crashed"
                lines.append(json.dumps({"module": modules[len(lines)], "skipped": reason}).encode() + b"\n")
                torn.write_bytes(b"".join(lines))
            done = len(lines)
        torn.rename(whole)
        return whole

    def stop(self) -> None:
        """Kill what runs and start nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()

    def _run(self, spool: Path, modules: Sequence[str]) -> bool:
        """Render into the spool until the end or a death; whether it died because a module took too long."""
        scratch = spool.with_suffix(".scratch")
        scratch.mkdir(exist_ok=True)
        seconds = self._config.seconds_per_module
        told = [spool, scratch, os.getpid(), seconds, self._config.maximum_page_bytes, *modules]
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        started = time.time()
        with self._lock:
            if self._stopped:
                raise InterruptedError("the crawl has been stopped")
            process = subprocess.Popen(
                [sys.executable, "-P", str(RENDER), *map(str, told)],
                env=ENVIRONMENT | inherited | {"HOME": str(scratch), "TMPDIR": str(scratch)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._running.add(process)
        try:
            process.wait(timeout=IDLE * seconds * len(modules) + 60)
            idle_since = max(started, spool.stat().st_mtime if spool.exists() else 0.0)
            waited = process.returncode == 1 and time.time() - idle_since > 0.9 * IDLE * seconds
            took_too_long = process.returncode == -signal.SIGPROF or waited
        except subprocess.TimeoutExpired:
            took_too_long = True
        finally:
            process.kill()
            process.wait()
            with self._lock:
                self._running.discard(process)
            shutil.rmtree(scratch, ignore_errors=True)
        return took_too_long
