"""The page of an evaluation: every score with its interval and chance, the margins behind it, and items to read.

One file beside the artifact, made of its files alone. A small script filters the items; the page's security policy lets
no other run, and without it all listed items are shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from megalith.artifacts import Artifact, open_artifact
from megalith.errors import InputError
from megalith.report import judged_items
from megalith.report.formats import DASH, counted, duration, fixed, is_share, number, pair, percent, significant, words
from megalith.report.judged_items import Result
from megalith.report.judged_shapes import EVALUATION, SAMPLE_TEXTS
from megalith.report.pages import page_beside, render_page
from megalith.report.shapes import check_facts, read_facts
from megalith.report.strips import histogram, strip
from megalith.report.views import Headline
from megalith.statistics.histogram import counts_between, round_edges

Facts = Mapping[str, Any]

MOST_ROWS = 1500
"""Items listed on the page, over all tasks."""
MEND = "Run `megalith evaluate` again with this version."


def write_evaluation(directory: Path) -> Path:
    """Write the page of the evaluate artifact at `directory` beside it (`evaluate.html`) and return its path.

    Raises InputError where there is no whole artifact, or one of its files is of another form.
    """
    artifact = open_artifact(directory, "evaluate")
    results = {key: judged_items.read_results(path) for key, path in _files(artifact).items()}
    return page_beside(directory, render_evaluation(artifact, results))


def render_evaluation(artifact: Artifact, results: Mapping[tuple[str, int], Sequence[Result]]) -> str:
    """Render the page: a pure function of the artifact and its per-item results."""
    facts = check_facts(artifact.facts, EVALUATION, where=artifact.path, mend=MEND)
    samples = artifact.path / "samples.json"
    listed = [(task, shots) for (task, shots), found in results.items() if found]
    each = max(5, MOST_ROWS // max(1, len(listed)))
    rows = [
        judged_items.item_row(_task_name(task, shots), result)
        for task, shots in listed
        for result in judged_items.spread(results[task, shots], each)
    ]
    return render_page(
        "evaluation.html",
        script="items.js",
        name=_name(artifact.path),
        version=artifact.manifest.versions.get("megalith", ""),
        headlines=_headlines(facts),
        shares=[_drawn(row, (0.0, 1.0)) for row in facts["tasks"] if is_share(row.get("metric"))],
        others=_others(facts),
        runs=[_run(task, shots, results[task, shots]) for task, shots in listed],
        fields=_fields(facts),
        contamination=[_contaminated(row) for row in facts.get("contamination") or []],
        items=rows,
        items_of=sum(len(found) for found in results.values()),
        tasks=list(dict.fromkeys(row.task for row in rows)),
        samples=read_facts(samples, SAMPLE_TEXTS, mend=MEND) if samples.is_file() else [],
    )


def _files(artifact: Artifact) -> dict[tuple[str, int], Path]:
    """The file of each task and number of shots, in the order of the table."""
    keys = dict.fromkeys((str(row["name"]), int(row["shots"])) for row in artifact.facts.get("tasks") or ())
    found = {key: artifact.path / "items" / f"{key[0]}-{key[1]}.jsonl" for key in keys}
    for path in found.values():
        if not path.is_file():
            raise InputError("a file of this evaluation is missing.", where=str(path), mend=MEND)
    return found


def _name(path: Path) -> str:
    place = path.resolve()
    return place.parent.name if place.name == "evaluate" else place.name


def _headlines(facts: Facts) -> list[Headline]:
    rows = facts["tasks"]
    scored = [row for row in rows if is_share(row.get("metric")) and pair(row.get("interval"))]
    leading = list({(row["name"], row["shots"]): row for row in reversed(scored)}.values())
    with_chance = [row for row in leading if number(row.get("chance")) is not None]
    above = [row for row in with_chance if row["interval"][0] > row["chance"]]
    documents = {(row["name"], row["shots"]): number(row.get("documents")) or 0 for row in rows}
    return [
        Headline("Tasks", str(len({row["name"] for row in rows})), f"{len(documents)} with each number of shots"),
        Headline("Items scored", f"{sum(documents.values()):,.0f}", "over all tasks and shots"),
        Headline("Above chance", f"{len(above)} of {len(with_chance)}", "first metric of each, interval clear of it"),
        Headline("Cut", counted(number(facts.get("truncated")) or 0, "prompt"), "too long for the context"),
        Headline("Time", duration(facts.get("seconds")), "of scoring"),
    ]


def _task_name(task: str, shots: int) -> str:
    return f"{words(task)}, {shots}-shot"


def _drawn(row: Facts, reach: tuple[float, float]) -> dict[str, Any]:
    """A row of the table with its drawing."""
    drawing = strip(number(row.get("score")), pair(row.get("interval")), reach, reference=number(row.get("chance")))
    return {**row, "strip": drawing}


def _others(facts: Facts) -> list[dict[str, Any]]:
    """Perplexities and bits, each metric on the scale of all its rows."""
    rows = [row for row in facts["tasks"] if not is_share(row.get("metric"))]
    ends: dict[str, list[float]] = {}
    for row in rows:
        told = [number(row.get("score")), *(pair(row.get("interval")) or ())]
        ends.setdefault(row["metric"], []).extend(value for value in told if value is not None)
    reaches = {metric: (min([0.0, *held]), 1.05 * max([0.0, *held])) for metric, held in ends.items()}
    return [_drawn(row, reaches[row["metric"]]) for row in rows]


@dataclass(frozen=True)
class _RunView:
    title: str
    items: int
    margins: Markup | None
    margin_of: str
    labels: list[tuple[str, int, int, Markup]]


def _run(task: str, shots: int, results: Sequence[Result]) -> _RunView:
    right, other = judged_items.margins(results)
    title = _task_name(task, shots)
    drawing = None
    of_words = "margin" not in results[0]
    if right or other:
        edges = round_edges([*right, *other])
        layers = [("right", counts_between(edges, right)), ("not right", counts_between(edges, other))]
        told = f"Histogram of {len(right) + len(other):,} margins of {title}, {len(right):,} of them right."
        drawing = histogram(edges, layers, description=told, reference=None if of_words else 0.0)
    labels = judged_items.labels(results)
    most = max([max(said, gold) for _, said, gold in labels] or [1])
    drawn = [(name, said, gold, strip(said, (0, said), (0, most), reference=gold)) for name, said, gold in labels]
    return _RunView(
        title,
        len(results),
        drawing,
        "log-probability of the word" if of_words else "best right answer less best wrong one",
        drawn,
    )


def _fields(facts: Facts) -> list[tuple[str, list[dict[str, Any]]]]:
    """Scores by the values of each field, a table for each task, shots and field."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for row in facts.get("by_field") or []:
        title = f"{_task_name(row['name'], row['shots'])}, by {words(row['field'])}"
        reach = (0.0, 1.0) if is_share(row.get("metric")) else _reach([row])
        tables.setdefault(title, []).append(_drawn(row, reach))
    return list(tables.items())


def _reach(rows: Sequence[Facts]) -> tuple[float, float]:
    ends = [value for row in rows for value in (number(row.get("score")), *(pair(row.get("interval")) or ()))]
    known = [value for value in ends if value is not None]
    return (min([0.0, *known]), max([0.0, *known]))


def _contaminated(row: Facts) -> dict[str, Any]:
    """A row of clean against dirty scores, both drawn on one scale."""
    share = is_share(row.get("metric"))
    parts = [row.get("clean") or {}, row.get("dirty") or {}]
    reach = (0.0, 1.0) if share else _reach(parts)
    form = percent if share else significant
    drawn = {
        name: {**part, "strip": _drawn(part, reach)["strip"], "told": form(part.get("score"))}
        for name, part in zip(("clean", "dirty"), parts, strict=True)
    }
    difference, ends = number(row.get("difference")), pair(row.get("difference_interval"))
    unit = " %" if "perplexity" in str(row.get("metric")) else " points" if share else ""
    scale = 100 if unit else 1
    told = DASH
    if difference is not None and ends is not None:
        low, high = (fixed(scale * end, 1 if share else 2) for end in ends)
        told = f"{fixed(scale * difference, 1 if share else 2)}{unit} [{low}, {high}]"
    return {**row, **drawn, "told": told}
