"""The pictures show the step: every action has its box, of its colour, at its time."""

import json
import re
import time
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from megalith.errors import InputError
from megalith.planning.timeline import Held, Kind, Step, write_timeline
from megalith.planning.timeline.colours import COLOURS, name
from megalith.planning.timeline.scene import LEFT, Boxes, Words, scene, ticks
from megalith.planning.timeline.svg import svg
from megalith.planning.timeline.trace import trace
from megalith.schedules import parse
from tests.planning.timeline.steps import step

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    held = Held([5e9, 4e9, 3e9], [1e9] * 3)
    return [step(after=(2.0, 1.0), held=held), step("zb-h1", after=(2.0, 1.0), held=held)]


def boxes(text: str, kind: Kind) -> list[tuple[float, float, float, float]]:
    """(x, y, width, height) of all rectangles of a kind, but for the legend's."""
    paths = [path for path in ElementTree.fromstring(text).iter(f"{SVG}path") if path.get("class") == name(kind)]
    found = [re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)", path.get("d", "")) for path in paths[1:]]
    return sorted(tuple(map(float, box)) for row in found for box in row)  # type: ignore[misc]  # four of each


def test_each_action_is_a_box_at_its_time(steps: list[Step]) -> None:
    drawn = scene("two schedules", steps)
    scale = (drawn.width - LEFT - 24) / max(one.step_seconds for one in steps)
    for kind in Kind:
        every = [block for one in steps for rows in (one.work, one.sends) for blocks in rows for block in blocks]
        wanted = sorted(LEFT + block.start_seconds * scale for block in every if block.kind is kind)
        found = boxes(svg(drawn), kind)
        assert wanted
        assert [x for x, *_ in found] == pytest.approx(wanted, abs=0.01)
    widths = [width for _, _, width, _ in boxes(svg(drawn), Kind.FORWARD)]
    assert widths == pytest.approx([scale * 1.0 - 0.8] * 36, abs=0.01)  # and a thin gap


def test_the_title_is_no_markup_and_the_same_step_gives_the_same_bytes(steps: list[Step]) -> None:
    drawn = svg(scene('<script>alert("&")</script>', steps))
    assert "<script" not in drawn
    assert ElementTree.fromstring(drawn).findtext(f"{SVG}title") == '<script>alert("&")</script>'
    assert drawn == svg(scene('<script>alert("&")</script>', steps))


def test_the_titles_say_time_bubble_and_peak() -> None:
    """(6 + 3 − 1) · 3 s of pipeline and 3 s after it, of which two micro-batches' time is the bubble."""
    made = step(send=0.0, after=(2.0, 1.0), held=Held([5e9, 4e9, 3e9], [1e9] * 3))
    texts = ["".join(found.itertext()) for found in ElementTree.fromstring(svg(scene("a", [made]))).iter(f"{SVG}text")]
    assert "step 27.0 s · bubble 22.2 % · peak 8.00 GB, on rank 0" in texts
    assert {"forward", "backward", "data-parallel reduction", "optimizer", "bubble", "rank 2"} <= set(texts)
    assert not {"send", "weight gradient"} & set(texts)


def test_a_step_that_does_not_fit_is_told_so() -> None:
    for capacity, told in ((7.9e9, "on rank 0, and the accelerator has 7.90 GB"), (8e9, "on rank 0")):
        made = step(held=Held([5e9, 4e9, 3e9], [1e9] * 3, capacity_bytes=capacity))
        texts = [item.text for item in scene("a", [made]).items if isinstance(item, Words)]
        assert next(text for text in texts if text.startswith("step ")).endswith(told)


def test_the_png_has_the_colours_where_the_actions_are(steps: list[Step], tmp_path: Path) -> None:
    (path,) = write_timeline(tmp_path / "step.png", "two schedules", steps)
    image = np.asarray(Image.open(path).convert("RGB"))
    drawn = scene("two schedules", steps)
    assert image.shape[:2] == (round(2 * drawn.height), round(2 * drawn.width))
    for item in drawn.items:
        if isinstance(item, Boxes) and item.opacity == 1 and item.role != "bubble":
            for x, y, width, height in item.boxes:
                pixel = image[int(2 * (y + height / 2)), int(2 * (x + min(width / 2, 2)))]
                assert "#{:02x}{:02x}{:02x}".format(*pixel) == COLOURS[item.role].light


def test_the_largest_step_stays_small_and_quick(tmp_path: Path) -> None:
    """MT-NLG's 35 stages and 240 micro-batches."""
    start = time.process_time()
    big = step("zb-h1", 35, 1, 240, send=0.1, held=Held([1e10] * 35, [1e9] * 35))
    files = write_timeline(tmp_path / "big", "big", [big])
    most = {".png": 0.6e6, ".svg": 1.5e6, ".html": 2.5e6, ".json": 8e6}
    assert {file.suffix for file in files if file.stat().st_size < most[file.suffix]} == set(most)
    assert time.process_time() - start < 20  # 2 s on an idle core


def test_the_trace_is_the_step(steps: list[Step]) -> None:
    events = json.loads(trace(steps))["traceEvents"]
    for number, one in enumerate(steps):
        own = [event for event in events if event["pid"] == number]
        names = {event["tid"]: event["args"]["name"] for event in own if event["name"] == "thread_name"}
        for rank, blocks in enumerate(one.work):
            tid = next(tid for tid, known in names.items() if known == f"rank {rank}")
            slices = [event for event in own if event["ph"] == "X" and event["tid"] == tid]
            actions = [parse(event["name"].removeprefix("PP:")) for event in slices[:-2]]
            assert actions == list(one.lists[rank])
            assert [event["name"] for event in slices[-2:]] == ["reduce", "optimizer"]
            assert [event["ts"] for event in slices] == pytest.approx([1e6 * block.start_seconds for block in blocks])
            assert slices[-1]["ts"] + slices[-1]["dur"] == pytest.approx(1e6 * one.step_seconds)
            held = [event["args"]["bytes"] for event in own if event["name"] == f"held by rank {rank}"]
            assert max(held) == one.peaks[rank]


def test_a_directory_gets_all_of_them_and_another_suffix_is_refused(steps: list[Step], tmp_path: Path) -> None:
    for directory in (tmp_path / "all", tmp_path / "gpt2-2.5b"):
        files = write_timeline(directory, "a", steps)
        assert [file.name for file in files] == ["timeline.png", "timeline.svg", "timeline.html", "timeline.json"]
        assert sorted(path.name for path in directory.iterdir()) == sorted(file.name for file in files)
    with pytest.raises(InputError, match=r"Use \.png, \.svg, \.html, \.json"):
        write_timeline(tmp_path / "step.pdf", "a", steps)


def test_a_picture_that_fails_leaves_the_one_before(
    steps: list[Step], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write_timeline(tmp_path / "step.svg", "a", steps)
    before = path.read_bytes()
    monkeypatch.setattr("megalith.planning.timeline.files.svg", lambda drawn: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_timeline(path, "b", steps)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("reach", "wanted", "found"), [(10, 5, [0, 2, 4, 6, 8, 10]), (0.35, 4, [0, 0.1, 0.2, 0.3])])
def test_the_axis_has_round_numbers(reach: float, wanted: int, found: list[float]) -> None:
    assert ticks(reach, wanted) == pytest.approx(found)


EYES = {  # Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB
    "all cones": np.eye(3),
    "no red": np.array([
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ]),
    "no green": np.array([
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ]),
    "no blue": np.array([
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900],
    ]),
}  # fmt: skip
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(colour: str, eyes: str) -> np.ndarray:
    """CIELAB of a colour as these eyes see it."""
    coded = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    relative = XYZ @ np.clip(EYES[eyes] @ linear, 0, 1) / (0.95047, 1, 1.08883)
    x, y, z = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("paper", [0, 1])
def test_kinds_are_told_apart_by_all_eyes(eyes: str, paper: int) -> None:
    """A difference of 2.3 can just be seen; 15 is plain between neighbours."""
    for one, other in combinations([*Kind, "bubble"], 2):
        distance = np.linalg.norm(lab(COLOURS[one][paper], eyes) - lab(COLOURS[other][paper], eyes))
        assert distance > 15, (one, other)
