"""The crawl of installed modules: the same bytes every time, and nothing a module does gets out."""

import gzip
import importlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from warcio.archiveiterator import ArchiveIterator

from megalith.artifacts import verify
from megalith.curation.crawling.modules import find_modules, order
from megalith.curation.reading import find_files, read_documents
from megalith.curation.steps.extract import extract
from megalith.errors import ResourceError
from megalith.recipe import Recipe, load_recipe

module = importlib.import_module("megalith.curation.crawling.crawl")
crawl = module.crawl

HOSTILE = {
    "__init__": '"""A package of modules that no crawler should trust."""',
    "a_good": '"""Good prose at the beginning."""\nPATH = __file__\nTHING = object()\ndef f(x=object()): "Does."',
    "b_exits": "import sys; sys.exit(3)",
    "c_dies": "import os; os._exit(5)",
    "d_hangs": "while True: pass",
    "d_sleeps": "import time; time.sleep(600)",
    "e_writes": "open({outside!r} + '/written', 'w').write('x')",
    "f_removes": "import os; os.remove({outside!r} + '/precious')",
    "g_starts": "import subprocess; subprocess.run(['touch', {outside!r} + '/started'])",
    "h_connects": "import socket; socket.create_connection(('127.0.0.1', {port}))",
    "i_hoards": "x = bytearray(4_000_000_000)",
    "j_prints": '"""Prints."""\nprint("hello from a module")',
    "k_writes_to_scratch": '"""Writes where it may."""\nimport tempfile; tempfile.TemporaryFile().write(b"x")',
    "l_is_long": f'"""{"word " * 60_000}"""',
    "m_breaks_pydoc": "class A:\n    def __getattr__(self, name): raise KeyboardInterrupt\nb = A()\n__all__ = b",
    "n_good": '"""Good prose at the end."""',
}


def recipe(*overrides: str) -> Recipe:
    return load_recipe("quickstart", overrides)[0]


def pages(directory: Path) -> dict[str, bytes]:
    documents = [document for file in find_files(directory) for document in read_documents(file, Counter())]
    return {document.url or "": document.html or b"" for document in documents}


def test_two_crawls_are_the_same_bytes_whatever_the_workers_and_the_place(tmp_path: Path) -> None:
    one = crawl(recipe("crawl.maximum_pages=40", "crawl.workers=1"), tmp_path / "one")
    two = crawl(recipe("crawl.maximum_pages=40", "crawl.workers=2"), tmp_path / "elsewhere" / "two")
    assert one.digest == two.digest
    assert one.facts["pages"] == 40
    assert not any(one.damaged for one in verify(two.path))
    texts = pages(tmp_path / "one")
    assert len(texts) == 40
    assert sum(map(len, texts.values())) == one.facts["bytes"]
    for place in (str(tmp_path), sys.prefix, sys.base_prefix, str(Path(module.__file__).parent)):
        assert not [url for url, html in texts.items() if place.encode() in html]
    extracted = sum(len(extract(html, "resiliparse")) for html in texts.values())
    assert extracted > 40 * 2000


def test_the_files_are_warc_with_one_member_a_record_and_digests_that_hold(tmp_path: Path) -> None:
    crawl(recipe("crawl.maximum_pages=5"), tmp_path / "crawl")
    (file,) = find_files(tmp_path / "crawl")
    with file.open("rb") as stream:
        kinds = [
            record.rec_type for record in ArchiveIterator(stream, check_digests="raise") if record.content_stream()
        ]
    assert kinds == ["warcinfo"] + ["response"] * 5
    assert file.read_bytes().count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == 6
    assert gzip.decompress(file.read_bytes()).count(b"WARC-Date: ") == 6


def test_no_module_is_imported_to_find_it_and_tests_and_games_are_left_out() -> None:
    before = set(sys.modules)
    found = find_modules()
    assert set(sys.modules) == before
    assert {"json.decoder", "asyncio.events", "sys", "torch.nn.functional", "numpy.linalg"} <= set(found)
    assert not {"antigravity", "this", "idlelib", "turtle", "tkinter", "json.__main__", "numpy.conftest"} & set(found)
    assert not [name for name in found if {"test", "tests"} & set(name.split(".")) or name.startswith("megalith")]


def test_the_order_is_the_standard_library_then_the_start_of_every_package() -> None:
    names = [f"{package}.m{number:02d}" for package in ("p", "q") for number in range(60)]
    modules = dict.fromkeys(["json", *names])
    chunks = [[name for name, _ in chunk] for chunk in order(modules, seed=1)]
    assert chunks[0] == ["json"]
    assert {chunk[0] for chunk in chunks[1:3]} == {"p.m00", "q.m00"}
    assert sorted(name for chunk in chunks for name in chunk) == sorted(modules)
    assert all(len({name.split(".")[0] for name in chunk}) == 1 for chunk in chunks)


def test_nothing_a_module_does_gets_out_and_its_neighbours_are_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    package = tmp_path / "path" / "hostile"
    package.mkdir(parents=True)
    for name, code in HOSTILE.items():
        filled = code.replace("{outside!r}", repr(str(outside))).replace("{port}", "9")
        (package / f"{name}.py").write_text(filled)
    names = {f"hostile.{name}": package / f"{name}.py" for name in HOSTILE if name != "__init__"}
    monkeypatch.setitem(module.ENVIRONMENT, "PYTHONPATH", str(package.parent))
    monkeypatch.setattr(module, "find_modules", lambda: {"hostile": package / "__init__.py", **names})
    monkeypatch.setattr(module, "MINIMUM_PAGES", 1)
    made = crawl(recipe("crawl.seconds_per_module=1", "crawl.maximum_page_bytes=200000"), tmp_path / "crawl")
    rendered = {url.removeprefix("http://localhost/").removesuffix(".html") for url in pages(tmp_path / "crawl")}
    good = {"a_good", "j_prints", "k_writes_to_scratch", "n_good"}
    assert rendered == {"hostile"} | {f"hostile.{name}" for name in good}
    assert made.facts["skipped"] == {
        "crashed": 1,
        "import failed": 6,
        "page too long": 1,
        "pydoc failed": 1,
        "took too long": 2,
    }
    assert [entry.name for entry in outside.iterdir()] == ["precious"]
    assert not list(package.rglob("*.pyc"))
    assert capfd.readouterr().out == ""
    page = pages(tmp_path / "crawl")["http://localhost/hostile.a_good.html"]
    assert b"0x" not in page and str(tmp_path).encode() not in page


def test_a_python_of_which_nothing_can_be_rendered_is_an_error_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_modules", lambda: {f"no_such_module_{n}": None for n in range(3)})
    with pytest.raises(ResourceError, match="3 × import failed"):
        crawl(recipe(), tmp_path / "crawl")
    assert not (tmp_path / "crawl").exists()


def test_a_finished_crawl_stands_when_a_package_is_installed_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    known = dict(list(module.find_modules().items())[:60])
    monkeypatch.setattr(module, "find_modules", lambda: known)
    first = crawl(recipe("crawl.maximum_pages=20"), tmp_path / "crawl")
    known["package_of_tomorrow"] = None
    again = crawl(recipe("crawl.maximum_pages=20"), tmp_path / "crawl")
    assert again.reused
    assert again.digest == first.digest
    assert "it stands, though inputs.modules was" in capfd.readouterr().err
    assert not crawl(recipe("crawl.maximum_pages=21"), tmp_path / "crawl").reused
    assert "crawl.maximum_pages was 20 and is 21 now" in capfd.readouterr().err


def test_a_crawl_killed_with_its_processes_leaves_no_orphan_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["crawl.maximum_pages=30", "crawl.workers=2"]
    code = (
        "import sys; from pathlib import Path; from megalith.recipe import load_recipe; "
        "from megalith.curation.crawling.crawl import crawl; "
        f"crawl(load_recipe('quickstart', {overrides!r})[0], Path(sys.argv[1]))"
    )
    running = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "killed")])
    spool = tmp_path / ".killed.partial" / "spool"
    _wait_for(lambda: any(spool.glob("*.jsonl")) and _rendering(spool))
    running.send_signal(signal.SIGKILL)
    running.wait()
    _wait_for(lambda: not _rendering(spool))
    finished = {json.loads(line)["module"] for file in spool.glob("*.jsonl") for line in file.open()}
    rendered: set[str] = set()
    run = module._Renderer._run
    monkeypatch.setattr(
        module._Renderer, "_run", lambda self, file, names: rendered.update(names) or run(self, file, names)
    )
    again = crawl(recipe(*overrides), tmp_path / "killed")
    assert finished and not finished & rendered
    assert again.digest == crawl(recipe(*overrides), tmp_path / "clean").digest
    assert sorted(file.name for file in (tmp_path / "killed").iterdir()) == ["manifest.json", "pages-00000.warc.gz"]


def test_no_process_of_a_crawl_outlives_it(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text("import time; time.sleep(600)")
    code = (
        "import sys; from pathlib import Path; import megalith.curation; from megalith.recipe import load_recipe; "
        "crawl = sys.modules['megalith.curation.crawling.crawl']; "
        "crawl.find_modules = lambda: {'sleeper': None}; crawl.ENVIRONMENT['PYTHONPATH'] = sys.argv[2]; "
        "crawl.crawl(load_recipe('quickstart', ['crawl.seconds_per_module=200'])[0], Path(sys.argv[1]))"
    )
    running = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "crawl"), str(tmp_path)])
    spool = tmp_path / ".crawl.partial" / "spool"
    _wait_for(lambda: any(spool.glob(".*.jsonl.tmp")))  # it sleeps, or is about to
    running.send_signal(signal.SIGKILL)
    running.wait()
    _wait_for(lambda: not _rendering(spool), seconds=10)


def _rendering(spool: Path) -> bool:
    """Whether a process of the crawl in this spool is alive."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(spool).encode() in command.read_bytes():
                return True
        except OSError:
            continue
    return False


def _wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")
