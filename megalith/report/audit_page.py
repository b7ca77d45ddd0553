"""The page of an audit: each instrument's figures with intervals and limits, HANS by sub-case, texts as they came."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from megalith.artifacts import Artifact, open_artifact
from megalith.report import audit_views, plots
from megalith.report.formats import counted, duration, number, pair, percent, span, words
from megalith.report.judged_items import LONGEST, read_results, spread
from megalith.report.judged_shapes import AUDIT
from megalith.report.pages import page_beside, render_page
from megalith.report.shapes import check_facts
from megalith.report.strips import histogram
from megalith.report.views import Headline

Facts = Mapping[str, Any]

MEND = "Run `megalith audit` again with this version."
MOST_TEXTS = 40
"""Generated texts shown of each file."""


def write_audit(directory: Path) -> Path:
    """Write the page of the audit artifact at `directory` beside it (`audit.html`) and return its path.

    Raises InputError where there is no whole artifact, or its facts are of another form.
    """
    artifact = open_artifact(directory, "audit")
    texts = {path.stem: read_results(path) for path in sorted((artifact.path / "items").glob("*.jsonl"))}
    return page_beside(directory, render_audit(artifact, texts))


def render_audit(artifact: Artifact, items: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Render the page: a pure function of the artifact and its per-item results by file."""
    facts = check_facts(artifact.facts, AUDIT, where=artifact.path, mend=MEND)
    instruments = {name: one for name, one in facts.items() if isinstance(one, Mapping)}
    hans = instruments.get("hans") or {}
    place = artifact.path.resolve()
    return render_page(
        "audit.html",
        name=place.parent.name if place.name == "audit" else place.name,
        version=artifact.manifest.versions.get("megalith", ""),
        headlines=_headlines(instruments, items, facts),
        sections=[audit_views.section(name, one) for name, one in instruments.items()],
        heat=_heat(hans),
        margins=list(_margins(hans, instruments.get("hans_shots") or {})),
        association=plots.association(instruments.get("association") or {}),
        generated=list(_generated(items)),
    )


def _headlines(instruments: Mapping[str, Facts], items: Mapping[str, Sequence[Any]], facts: Facts) -> list[Headline]:
    hans, association = (instruments.get(name) or {} for name in ("hans", "association"))
    skipped = sum("skipped" in one for one in instruments.values())
    beside = f"{counted(skipped, 'other')} skipped, for want of files" if skipped else "all that were asked for"
    told = [
        Headline("Instruments", str(len(instruments) - skipped), beside),
        Headline("Answers read", f"{sum(map(len, items.values())):,}", "over all instruments"),
    ]
    if number(hans.get("accuracy")) is not None:
        told.append(Headline("HANS", percent(hans["accuracy"]), f"{span(hans.get('interval'), percent)}; chance 50 %"))
    if (odds := number(association.get("mean_log_odds_ratio"))) is not None:
        ends = pair(association.get("log_odds_ratio_interval"))
        beside = f"nats; {ends[0]:.2f} – {ends[1]:.2f}".replace("-", "−") if ends else "nats"
        told.append(Headline("Towards female", f"{odds:+.2f}".replace("-", "−"), beside))
    return [*told, Headline("Time", duration(facts.get("seconds")), "of the audit")]


@dataclass(frozen=True)
class Cell:
    """Accuracy of one sub-case."""

    name: str
    accuracy: str
    heat: int
    """0 … 100: how full the cell's colour is."""
    beside: str


def _heat(hans: Facts) -> list[tuple[str, list[tuple[Cell | None, Cell | None]]]]:
    """For each heuristic its sub-cases side by side: those that follow, and those that do not."""
    table = []
    rows = hans.get("subcases") or []
    for heuristic in dict.fromkeys(row["heuristic"] for row in rows):
        own = [row for row in rows if row["heuristic"] == heuristic]
        sides = [[_cell(row) for row in own if _follows(row) is side] for side in (True, False)]
        most = max(map(len, sides))
        padded = [[*side, *[None] * (most - len(side))] for side in sides]
        table.append((words(heuristic), list(zip(*padded, strict=True))))
    return table


def _follows(row: Facts) -> bool:
    return not str(row.get("label")).lower().startswith("non")


def _cell(row: Facts) -> Cell:
    accuracy = number(row.get("accuracy"))
    name = words(str(row.get("subcase")).split("_", 1)[-1])
    beside = f"{span(row.get('interval'), percent, 0)}; {counted(row.get('documents'), 'example')}"
    return Cell(name, percent(accuracy, 0), round(100 * (accuracy or 0.0)), beside)


def _margins(hans: Facts, shots: Facts) -> Iterator[tuple[str, list[tuple[str, Markup]]]]:
    """Histograms of log P(True) − log P(False) by heuristic, a row for each number of shots and for the plain test."""
    counts = (shots.get("tables") or {}).get("counts") or []
    held = [(f"{row.get('plan')} shots", row.get("histograms") or {}) for row in counts]
    if not held and hans.get("histograms"):
        held = [("as asked", hans["histograms"])]
    most = max((max(_stacked(one)) for _, one in held if one), default=1)
    for name, one in held:
        drawn = []
        for heuristic in dict.fromkeys(row["heuristic"] for row in one.get("rows") or []):
            own = [row for row in one["rows"] if row["heuristic"] == heuristic]
            layers = [(row["label"], row["counts"]) for row in sorted(own, key=lambda row: not _follows(row))]
            told = f"Margins of {words(heuristic)}, {name}."
            drawn.append((words(heuristic), histogram(one["edges"], layers, description=told, most=most, width=230)))
        yield name, drawn


def _stacked(one: Facts) -> list[int]:
    """The tallest stack of each heuristic."""
    counts: dict[str, list[list[int]]] = {}
    for row in one["rows"]:
        counts.setdefault(row["heuristic"], []).append(row["counts"])
    return [max(map(sum, zip(*own, strict=True)), default=1) for own in counts.values()]


@dataclass(frozen=True)
class Written:
    """A text that the model wrote."""

    prompt: str
    text: str
    beside: str
    """The kind of prompt, and what was found in the text."""


def _generated(items: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[tuple[str, int, list[Written]]]:
    """Texts that the model wrote, by file: name, how many there are, and some of them with their prompts."""
    for name, rows in items.items():
        written = [row for row in rows if isinstance(row.get("text", row.get("generated")), str)]
        if written:
            yield words(name), len(written), [_written(row) for row in spread(written, MOST_TEXTS)]


def _written(row: Mapping[str, Any]) -> Written:
    told = [words(row[key]) for key in ("kind", "group", "name") if isinstance(row.get(key), str)]
    if isinstance(row.get("accepted"), list):
        told.append(f"accepted: {' / '.join(map(str, row['accepted'][:5]))}")
    if isinstance(row.get("found"), bool):
        told.append("found" if row["found"] else "not found")
    if isinstance(row.get("tests"), list):
        told.append(f"{row.get('passed', 0)} of {counted(len(row['tests']), 'test')} passed")
    text = str(row.get("text", row.get("generated")))
    return Written(str(row.get("prompt") or ""), text[: 3 * LONGEST], "; ".join(told))
