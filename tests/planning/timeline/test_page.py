"""The page: whole in itself, safe with any title, and in a browser it answers the pointer."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from megalith.planning.timeline import Held, Step, write_timeline
from megalith.planning.timeline.page import page
from tests.planning.timeline.steps import step

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
AT = """<script>
window.addEventListener("load", () => {
  const step = STEPS[0], place = canvas.getBoundingClientRect();
  const point = (rank, time) => {
    const left = place.left + x(time), top = place.top + step.top + (rank + 0.3) * step.row;
    canvas.dispatchEvent(new PointerEvent("pointermove", { clientX: left, clientY: top, bubbles: true }));
    return tip.textContent;
  };
  const said = [point(0, 0.5e6), point(1, 0.2e6)];
  document.querySelector("[data-zoom='2']").click();
  said.push((to - from) / WHOLE, point(0, step.step / 2));
  view(0, 1e6);
  said.push(point(0, 0.5e6));
  document.title = JSON.stringify(said);
});
</script>"""


@pytest.fixture
def made() -> Step:
    return step(after=(2.0, 1.0), held=Held([5e9, 4e9, 3e9], [1e9] * 3))


def test_the_page_fetches_nothing_and_holds_the_whole_step(made: Step) -> None:
    text = page("a step", [made])
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)|https?://|@import|url\(""", text)
    (facts,) = json.loads(re.search(r'id="steps">(.*?)</script>', text, flags=re.DOTALL)[1])  # type: ignore[index]  # it is there
    for drawn, blocks in zip(facts["work"], made.work, strict=True):
        assert [row[1] for row in drawn] == pytest.approx([1e6 * block.start_seconds for block in blocks], abs=0.1)
        assert [row[4] for row in drawn[:-2]] == [block.action.micro_batch for block in blocks[:-2] if block.action]
    assert facts["step"] == pytest.approx(1e6 * made.step_seconds)


def test_a_title_or_a_file_name_is_no_markup(made: Step) -> None:
    named = Step("</script><b>.csv", made.lists, made.timing, None)
    text = page("</title><script>alert(1)</script>", [named])
    assert "<script>alert" not in text
    assert "</script><b>" not in text


def test_the_legend_names_no_colour_that_dark_mode_turns_over(made: Step) -> None:
    assert "thick line: rank" in page("a step", [made])
    assert not re.search(r"(dark|black|white|grey): rank", page("a step", [made]))


@pytest.mark.browser
@pytest.mark.parametrize("width", [300, 390, 1200])
def test_no_word_of_the_picture_is_cut_at_any_width(made: Step, tmp_path: Path, width: int) -> None:
    written = """<script>window.addEventListener("load", () => {
  canvas.style.width = WIDTHpx; const out = [];
  const fill = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (words, left, top) {
    const wide = this.measureText(words).width, start = { left: 0, center: wide / 2, right: wide }[this.textAlign];
    out.push([words, left - start, left - start + wide]);
    fill.call(this, words, left, top);
  };
  draw();
  document.title = JSON.stringify(out);
});</script>""".replace("WIDTHpx", f'"{width}px"')
    words = json.loads(browse(made, tmp_path, written))
    headline = " ".join(word for word, *_ in words if "step " in word or "bubble" in word or "peak" in word)
    assert "step" in headline and "bubble" in headline and "peak" in headline
    assert [(word, left, right) for word, left, right in words if left < -0.5 or right > width + 0.5] == []


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_the_pointer_is_told_what_lies_under_it(made: Step, tmp_path: Path, dark: bool) -> None:
    title = browse(made, tmp_path, AT, *(["--blink-settings=preferredColorScheme=0"] if dark else []))
    first, idle, share, _, near = json.loads(title)
    assert first == "forward: stage 0, micro-batch 0\n0 to 1.000 s (1.000 s)\nrank 0 holds 6.00 GB"
    assert idle.startswith("bubble at ")
    assert idle.endswith("rank 1 holds 4.00 GB")
    assert share == pytest.approx(0.5)
    assert near == first


def browse(made: Step, folder: Path, script: str, *more: str) -> str:
    """The title of the page after a script has run in it; nothing may be said on the console."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on the PATH")
    (path,) = write_timeline(folder / "step.html", "a step", [made])
    path.write_text(path.read_text().replace("</body>", script + "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", "--virtual-time-budget=2000"]
    options += ["--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", *more]
    shown = subprocess.run(
        [browser, *options, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    assert "CONSOLE" not in shown.stderr
    title = re.search(r"<title>(.*?)</title>", shown.stdout)
    assert title is not None
    return html.unescape(title[1])
