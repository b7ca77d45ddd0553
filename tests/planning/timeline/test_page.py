"""The page: whole in itself, safe with any title, and in a browser it answers the pointer."""

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


@pytest.mark.browser
@pytest.mark.parametrize("dark", [False, True])
def test_the_pointer_is_told_what_lies_under_it(made: Step, tmp_path: Path, dark: bool) -> None:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is on the PATH")
    (path,) = write_timeline(tmp_path / "step.html", "a step", [made])
    path.write_text(path.read_text().replace("</body>", AT + "</body>"))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900", "--virtual-time-budget=2000"]
    options += ["--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}"]
    options += ["--blink-settings=preferredColorScheme=0"] if dark else []
    shown = subprocess.run(
        [browser, *options, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    assert "CONSOLE" not in shown.stderr
    title = re.search(r"<title>(.*?)</title>", shown.stdout)
    assert title is not None
    first, idle, share, _, near = json.loads(title[1].replace("&amp;", "&"))
    assert first == "forward: stage 0, micro-batch 0\n0 to 1.000 s (1.000 s)\nrank 0 holds 6.00 GB"
    assert idle.startswith("bubble at ")
    assert idle.endswith("rank 1 holds 4.00 GB")
    assert share == pytest.approx(0.5)
    assert near == first
