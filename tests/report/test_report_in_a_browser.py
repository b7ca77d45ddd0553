"""The page in headless Chromium: nothing on the console, nothing asked for but itself, no sideways scrolling."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from megalith.report import write_report

pytestmark = pytest.mark.browser
NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-default-apps "
    "--enable-logging=stderr --v=0 --hide-scrollbars --virtual-time-budget=2000"
)


@pytest.fixture
def chromium() -> str:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is on the PATH")
    return found


@pytest.fixture
def served(directory: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a server of the expedition's directory, and the paths that it is asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_it_opens_from_disk_with_no_word_on_the_console(chromium: str, directory: Path, tmp_path: Path) -> None:
    shown = browse(chromium, write_report(directory).as_uri(), tmp_path / "profile")
    assert "CONSOLE" not in shown.stderr
    assert '<svg class="plot wide"' in shown.stdout
    assert "<script" not in shown.stdout


def test_it_asks_for_nothing_but_itself(
    chromium: str, directory: Path, served: tuple[str, list[str]], tmp_path: Path
) -> None:
    write_report(directory)
    address, asked = served
    log = tmp_path / "net.json"
    # No name resolves: neither the page nor the browser on its own account can reach anything but this server.
    alone = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    shown = browse(chromium, f"{address}/report.html", tmp_path / "profile", alone, f"--log-net-log={log}")
    assert "CONSOLE" not in shown.stderr
    assert asked == ["/report.html"]
    urls = set(re.findall(r'"url":\s*"([^"]+)"', log.read_text(errors="replace")))
    assert f"{address}/report.html" in urls
    assert not [url for url in urls if "example.org" in url]  # an image that one of the texts asks for


@pytest.mark.parametrize("width", [380, 768, 1280])
def test_the_page_never_scrolls_sideways(chromium: str, directory: Path, tmp_path: Path, width: int) -> None:
    write_report(directory)
    frame = directory / "frame.html"
    measure = (
        "const page = document.querySelector('iframe');"
        "page.onload = () => { const root = page.contentDocument.documentElement;"
        "for (const part of page.contentDocument.querySelectorAll('details')) part.open = true;"
        "document.title = JSON.stringify([root.scrollWidth, root.clientWidth]); };"
    )
    frame.write_text(
        f'<title></title><iframe style="width:{width}px;height:800px;border:0" src="report.html"></iframe>'
        f"<script>{measure}</script>"
    )
    shown = browse(chromium, frame.as_uri(), tmp_path / "profile", "--allow-file-access-from-files")
    title = re.search(r"<title>(\[.*?\])</title>", shown.stdout)
    assert title is not None, shown.stderr
    content, room = json.loads(title[1])
    assert content <= room == width


def browse(chromium: str, url: str, profile: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Open a page, wait until it is idle, and return its document (stdout) and the browser's log (stderr)."""
    command = [chromium, *QUIET.split(), f"--user-data-dir={profile}", *more, "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
