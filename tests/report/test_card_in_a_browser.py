"""The card in headless Chromium, every fold open: no word on the console, no sideways scrolling, whatever its texts."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from megalith.report.card import render_card
from tests.report.test_card import FUNNEL, HOSTILE

pytestmark = pytest.mark.browser
QUIET = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --enable-logging=stderr "
    "--v=0 --hide-scrollbars --virtual-time-budget=2000 --allow-file-access-from-files --dump-dom"
)
LONG = "a" * 400


def make_card() -> dict[str, Any]:
    """A card whose every text is long and without a space, or hostile."""
    sample = {"id": "0", "url": f"https://{LONG}.example/", "text": HOSTILE + LONG, "reason": LONG}
    pieces = {"kept_pieces": [[LONG, True]], "pieces": [[HOSTILE, False], [LONG, True]], "at_word": 3}
    steps = [step | {"seconds": 1e6, "bytes_in": 10**15, "documents_in": 10**12} for step in FUNNEL]
    steps[1] = steps[1] | {"dropped": {LONG: 10**11}}
    return {
        "name": LONG, "digest": "0" * 64, "seed": 1, "started": "", "seconds": 1.0, "peak_memory_bytes": 10**9,
        "versions": {"megalith": "0.1.0"}, "settings": {"curate": {LONG: LONG}}, "inputs": {LONG: "0" * 64},
        "outputs": [{"path": f"{LONG}.parquet", "bytes": 1, "sha256": "0" * 64}],
        "splits": {"train": 10**12, "validation": 10**10}, "datasets": {LONG: {"licence": LONG}}, "steps": steps,
        "samples": {"heuristics": [sample], "kept": [sample] * 5},
        "clusters": [{"documents": 3, "kept": sample, "dropped": [sample | pieces, sample]}],
        "documents_in": 10**12, "documents_out": 10**11, "bytes_in": 10**15, "bytes_out": 10**14, "html_bytes_in": 1,
        "read": {LONG: 3}, "quality": {LONG: LONG}, "task_items": {LONG: 3},
        "languages": {LONG: {"en": 3}}, "domains": [{"domain": LONG, "documents": 3, "bytes": 3}] * 30,
        "different_domains": 30, "histograms": {f"signals.{LONG}": {"edges": [0, 1, 2], "counts": [1, 2]}},
        "decontamination": {"matches": 1, "tasks": {LONG: {"texts": 10**9}}}, "private": {LONG: 3},
    }  # fmt: skip


@pytest.mark.parametrize("width", [380, 1280])
def test_the_card_never_scrolls_sideways_and_says_nothing_on_the_console(tmp_path: Path, width: int) -> None:
    chromium = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("there is no Chromium on the PATH")
    (tmp_path / "card.html").write_text(render_card(make_card()), errors="replace")
    measure = (
        "const page = document.querySelector('iframe');"
        "page.onload = () => { const root = page.contentDocument.documentElement;"
        "for (const part of page.contentDocument.querySelectorAll('details')) part.open = true;"
        "document.title = JSON.stringify([root.scrollWidth, root.clientWidth]); };"
    )
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<title></title><iframe style="width:{width}px;height:800px;border:0" src="card.html"></iframe>'
        f"<script>{measure}</script>"
    )
    command = [chromium, *QUIET.split(), f"--user-data-dir={tmp_path / 'profile'}", frame.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search(r"<title>(\[.*?\])</title>", shown.stdout)
    assert title is not None, shown.stderr
    content, room = json.loads(title[1])
    assert content <= room == width
    assert "CONSOLE" not in shown.stderr
