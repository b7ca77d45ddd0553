"""The expedition log: one file, whatever the expedition left, that asks nothing of a network and runs nothing."""

import html
import json
import re
import shutil
import time
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from megalith import report
from megalith.artifacts import Artifact, Workspace, produce, sealed, verify
from megalith.errors import InputError
from megalith.expedition import read_expedition
from megalith.report import plots, write_report
from megalith.report.report import render

PARTS = ("crawl", "curation", "tokens", "plan", "train", "evaluate", "audit", "samples", "recipe")
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """The elements of a page, as an independent parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def text(finished: Path) -> str:
    """The page of the whole expedition."""
    return write_report(finished).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_the_page_is_one_file_beside_the_expedition(directory: Path) -> None:
    before = set(directory.rglob("*"))
    assert write_report(directory) == directory / "report.html"
    assert set(directory.rglob("*")) - before == {directory / "report.html"}


def test_every_element_is_closed_and_headings_go_down_one_level_at_a_time(page: Page) -> None:
    assert page.open == []
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_nothing_on_the_page_is_fetched_or_run(page: Page, text: str) -> None:
    assert not {tag for tag, _ in page.elements} & {"script", "img", "iframe", "object", "embed", "base", "form"}
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
                assert value is not None and value.startswith(("#", "data:,")), (tag, value)
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    (policy,) = [m["content"] for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'")


def test_what_a_text_holds_is_shown_and_not_obeyed(text: str) -> None:
    assert "<script>" not in text
    assert html.escape('<script>alert("x")</script>', quote=False).replace('"', "&#34;") in text
    assert "␀␛[31m�gnp.exe" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)


def test_names_that_are_drawn_are_escaped_and_made_visible(expedition: dict[str, Any]) -> None:
    hostile = "</text></svg><script>alert(1)</script>\u202egnp\x00\u2067"
    expedition["curation"]["steps"][2]["name"] = hostile
    expedition["evaluate"]["tasks"][2]["name"] = hostile
    expedition["audit"]["association"]["rows"] = [
        {"occupation": hostile, "log_odds_ratio": -9.0},
        {"occupation": "x", "log_odds_ratio": 1.0},
    ]
    text = render(expedition, samples={}, history={})
    assert "<script" not in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert Page(text).open == []


def test_links_within_the_page_and_within_its_figures_lead_somewhere_alone(page: Page, text: str) -> None:
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    wanted = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert wanted and wanted <= set(names)


def test_every_figure_is_labelled_and_every_table_has_headers(page: Page) -> None:
    figures = page.named("svg")
    assert len(figures) == 12  # five figures at two widths, and two small ones
    assert all(figure["role"] == "img" and figure["aria-label"] for figure in figures)
    tables = len(page.named("table"))
    assert tables == len(page.named("thead")) == len(page.named("caption"))
    assert all("scope" in header for header in page.named("th"))


def test_figures_take_their_colours_from_the_page(text: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert all("var(--" in drawing for drawing in drawings)
    assert not [found for drawing in drawings for found in re.findall(r"#[0-9a-f]{6}\b", drawing)]
    assert "<text" in drawings[0]


def test_the_same_expedition_gives_the_same_bytes(directory: Path, text: str) -> None:
    assert write_report(directory).read_bytes() == text.encode()


def test_the_plan_stands_beside_the_measurement(text: str) -> None:
    rows = _rows(text, "Predicted and measured")
    assert rows["Time of a step"] == ["318 ms 286 ms – 362 ms", "341 ms", "+7.2 % inside the interval"]  # 0.341 / 0.318
    assert rows["Tokens trained on"] == ["2,244,608", "2,244,608", "none"]
    assert rows["Validation loss, nats per token"][2] == "— see below"


def test_a_score_is_set_against_chance_by_its_interval(text: str) -> None:
    cells = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>.*?</tr>", text, flags=re.DOTALL)]
    continuations = [row for row in cells if row[0] == "continuation"]
    assert [row[-3] for row in continuations] == ["better", "level", "level"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("absence", ["null", "empty", "missing"])
def test_a_page_is_made_of_an_expedition_that_lacks_a_part(
    expedition: dict[str, Any], part: str, absence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "responsive", lambda *figure: None)  # drawing is slow, and not what is asked here
    if absence == "missing":
        del expedition[part]
    else:
        expedition[part] = None if absence == "null" else type(expedition[part])()
    page = Page(render(expedition, samples={}, history={}))
    assert page.open == []
    assert [attributes["id"] for attributes in page.named("section")][-1] == "artifacts"


def test_a_page_is_made_of_an_expedition_whose_every_figure_is_null(expedition: dict[str, Any]) -> None:
    def hollow(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: hollow(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [hollow(inner) for inner in value]
        return None if isinstance(value, int | float) else value

    text = render(hollow(expedition), samples={}, history={})
    assert Page(text).open == []
    assert "None" not in re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL)


def test_a_budget_in_hours_and_a_loss_that_is_no_forecast_are_told(expedition: dict[str, Any]) -> None:
    expedition["recipe"]["budget"] |= {"flops": None, "hours": 0.025}
    expedition["plan"]["laws"][0] |= {"source": "x", "loss": None, "loss_note": "an even guess has 8.3 nats"}
    text = render(expedition, samples={}, history={})
    assert "1 min 30 s of training; law: " in text
    assert "Loss left out: an even guess has 8.3 nats" in text


def test_figures_that_are_not_finite_read_as_a_dash(directory: Path, expedition: dict[str, Any]) -> None:
    expedition["train"] |= {"mfu": float("nan"), "validation_loss": float("inf")}
    (directory / "expedition.json").write_text(json.dumps(expedition))
    text = write_report(directory).read_text(encoding="utf-8")
    assert not re.search(r"\b(nan|inf)\b", text)


def test_a_directory_without_an_expedition_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the directory of a finished expedition"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["expedition.json", "curate/samples.json", "train/history.json"])
def test_a_damaged_file_is_named(directory: Path, name: str) -> None:
    (directory / name).write_text('{"name": ')
    with pytest.raises(InputError, match="not JSON") as told:
        write_report(directory)
    assert told.value.where is not None and told.value.where.endswith(name)


def test_a_changed_figure_does_not_fit_the_seal(directory: Path, expedition: dict[str, Any]) -> None:
    whole = sealed(expedition)
    (directory / "expedition.json").write_text(json.dumps(whole))
    write_report(directory)
    assert [file.state for one in verify(directory) for file in one.files if file.path == "expedition.json"] == ["ok"]
    whole["train"] = {**whole["train"], "validation_loss": 1.0}
    (directory / "expedition.json").write_text(json.dumps(whole))
    with pytest.raises(InputError, match="does not fit its seal"):
        write_report(directory)
    with pytest.raises(InputError, match="does not fit its seal"):
        read_expedition(directory)
    assert [file.path for one in verify(directory) for file in one.damaged] == ["expedition.json"]


def test_figures_of_another_run_are_refused(
    directory: Path, expedition: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    made = {stage: make_artifact(directory / stage, stage) for stage in ("train", "evaluate")}
    own = [{"stage": stage, "digest": artifact.digest} for stage, artifact in made.items()]
    for artifacts, said in ((own, ""), ([own[0], {**own[1], "digest": "0" * 64}], "evaluate has been made again")):
        (directory / "expedition.json").write_text(json.dumps(expedition | {"artifacts": artifacts}))
        write_report(directory)
        assert said in " ".join(capsys.readouterr().err.split())
    artifacts = [{**own[0], "digest": "0" * 64}, own[1]]
    (directory / "expedition.json").write_text(json.dumps(expedition | {"artifacts": artifacts}))
    with pytest.raises(InputError, match="tells of another run"):
        write_report(directory)


def make_artifact(path: Path, stage: str) -> Artifact:
    """A small artifact, beside what the fixture has put there."""
    shutil.rmtree(path, ignore_errors=True)

    def build(workspace: Workspace) -> dict[str, Any]:
        workspace.write_json("x.json", {})
        return {}

    return produce(path, stage=stage, settings={}, inputs={}, seed=1, build=build)


def test_a_report_takes_less_than_four_seconds(directory: Path, text: str) -> None:
    start = time.process_time()  # of a process that has drawn before: `text`
    write_report(directory)
    assert time.process_time() - start < 4


def _rows(text: str, caption: str) -> dict[str, list[str]]:
    """The cells of the table of that caption by the header of their row."""
    table = re.search(rf"<caption>{caption}</caption>.*?</table>", text, flags=re.DOTALL)
    assert table is not None
    found = {}
    for row in re.findall(r"<tr>(.*?)</tr>", table[0], flags=re.DOTALL):
        cells = [" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in re.split(r"</t[hd]>", row)[:-1]]
        found[cells[0]] = cells[1:]
    return found


def test_a_table_that_does_not_fit_shows_a_shadow_where_it_goes_on() -> None:
    style = (Path(report.__file__).parent / "report.css").read_text(encoding="utf-8")
    (rule,) = re.findall(r"^\.scroll \{(.*?)\}", style, re.DOTALL | re.MULTILINE)
    assert rule.count("no-repeat local") == rule.count("no-repeat scroll") == 2
    assert len(re.findall(r"--shade:", style)) == 3  # light, dark, print


def test_text_stands_out_from_its_ground_in_light_and_in_dark() -> None:
    """WCAG 2.1's contrast ratio, at least 4.5 for text (success criterion 1.4.3)."""
    style = (Path(report.__file__).parent / "report.css").read_text(encoding="utf-8")
    palettes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]+)", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(palettes) == 3  # light, dark, print
    for palette in palettes:
        for ground in ("paper", "raised"):
            for text in ("ink", "muted", "accent", "warn"):
                assert _contrast(palette[text], palette[ground]) >= 4.5, (text, ground, palette)


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    shares = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
