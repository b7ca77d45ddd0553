"""The pages of what was judged in headless Chromium: quiet, never wider than the window, and items that filter."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from megalith.evaluation.compare import compare
from megalith.report import write_audit, write_comparison, write_evaluation
from tests.evaluation.judged import choices, judged
from tests.report.judged import write_audit_artifact, write_evaluate
from tests.report.test_report_in_a_browser import browse, chromium

pytestmark = pytest.mark.browser
__all__ = ["chromium"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("judged")
    write_evaluation(write_evaluate(place / "evaluate").path)
    write_audit(write_audit_artifact(place / "audit").path)
    sides = [judged(place / name, {("boolq", 0): choices([1.0, value] * 30)}, model=name).path
             for name, value in (("a", 0.0), ("b", 1.0))]  # fmt: skip
    compared = compare(sides[:1], sides[1:], margin_points=1, margin_percent=0.5, flips=True)
    write_comparison(asdict(compared), place / "compare.html")
    return place


def framed(chromium: str, page: Path, profile: Path, width: int, script: str) -> object:
    """The value that a script finds in the page, in a frame of a width; `page` is its document."""
    frame = page.with_name(f"frame-{page.stem}-{width}.html")
    frame.write_text(
        f'<title></title><iframe style="width:{width}px;height:800px;border:0" src="{page.name}"></iframe><script>'
        "document.querySelector('iframe').onload = ({target}) => { const page = target.contentDocument;"
        f"document.title = JSON.stringify((() => {{ {script} }})()); }};</script>"
    )
    shown = browse(chromium, frame.as_uri(), profile, "--allow-file-access-from-files")
    assert "CONSOLE" not in shown.stderr
    title = re.search(r"<title>(.*?)</title>", shown.stdout)
    assert title is not None and title[1], shown.stderr
    return json.loads(title[1])


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["evaluate", "audit", "compare"])
def test_a_page_is_quiet_and_never_scrolls_sideways(
    chromium: str, written: Path, tmp_path: Path, name: str, width: int
) -> None:
    script = (
        "for (const part of page.querySelectorAll('details')) part.open = true;"
        "return [page.documentElement.scrollWidth, page.documentElement.clientWidth];"
    )
    content, room = framed(chromium, written / f"{name}.html", tmp_path / "profile", width, script)  # type: ignore[misc]
    assert content <= room == width


def test_items_filter_by_text_and_by_answer(chromium: str, written: Path, tmp_path: Path) -> None:
    script = (
        "const [text, task, answer] = page.querySelectorAll('.filter input, .filter select');"
        "const told = () => page.querySelector('.filter output').textContent;"
        "const shown = () => [...page.querySelectorAll('.listed tbody tr')].filter((row) => !row.hidden).length;"
        "const change = (part, value) => { part.value = value; part.dispatchEvent(new Event('input')); };"
        "const found = [told()]; change(text, 'QUESTION number 29'); found.push(told(), shown());"
        "change(answer, 'wrong'); found.push(told()); change(text, ''); change(answer, '');"
        "change(task, 'gsm8k, 5-shot'); found.push(shown()); return found;"
    )
    found = framed(chromium, written / "evaluate.html", tmp_path / "profile", 1280, script)
    # 29 and 290 to 299; of three, the model is right on two: it says the first answer to those that do not leave 2.
    right = sum(int(place % 3 == 2) == place % 2 for place in (29, *range(290, 300)))
    assert found == ["361 of 361 rows", "11 of 361 rows", 11, f"{11 - right} of 361 rows", 20]
