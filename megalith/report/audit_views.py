"""The sections of an audit as tables: whatever an instrument found, its figures with intervals drawn on one scale.

Instruments differ in their facts, which are walked as they are: each figure that has an interval is a line, figures of
one measure in one list are a table, and single figures stand above. An instrument added tomorrow has its place too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from megalith.report.formats import DASH, number, pair, percent, significant, span, whole, words
from megalith.report.strips import strip

Facts = Mapping[str, Any]

_TITLES = {
    "hans": "HANS: shallow heuristics",
    "hans_shots": "HANS with solved examples",
    "in_context": "In-context sensitivity",
    "association": "Association of occupations with gender",
    "winogender": "Winogender",
    "winobias": "WinoBias",
    "crows_pairs": "CrowS-Pairs",
    "bbq": "BBQ",
}
_RIGHT = ("accuracy", "correct")
"""Measures that are compared with chance."""
_EVEN = ("stereotypical", "male_preferred_share")
"""Measures that are a half where nothing is preferred."""
_SHARES = (*_RIGHT, *_EVEN, "chance", "unbiased", "answered_true", "right_labels", "share", "said", "unknown",
    "toxic", "recall", "precision", "false_alarms", "false_alarms_naming_a_group",
)  # fmt: skip
_GENERIC = ("mean", "value", "nats", "difference", "correlation")
"""Names that say nothing without the one above them: pull.nats is the pull."""
_GROUPS = "tables"
"""The key over tables that have names of their own."""
_UNSHOWN = {
    "note", "limits", "skipped", "histograms", "standard_error", "truncated", "seconds", "subcases",
}  # fmt: skip
"""Shown elsewhere, as the sub-cases of HANS; lists of texts are too."""
MOST_PLAIN = 200
"""Rows of a table of figures without intervals."""


@dataclass(frozen=True)
class Line:
    """One figure with its interval."""

    name: str
    drawing: Markup
    value: str
    interval: str
    beside: str
    """Other figures of the same row."""


@dataclass(frozen=True)
class Table:
    """Figures of one measure, on one scale."""

    title: str
    lines: list[Line]
    scale: str


@dataclass(frozen=True)
class PlainTable:
    """Figures without intervals, such as counts of words."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    many: int
    """Rows that there are; fewer are shown where there are very many."""


@dataclass(frozen=True)
class Section:
    """One instrument."""

    anchor: str
    title: str
    note: str
    limits: list[str]
    skipped: str
    pairs: list[tuple[str, str]]
    """Single figures."""
    tables: list[Table]
    plain: list[PlainTable]


def section(name: str, facts: Facts) -> Section:
    """The section of one instrument."""
    tables: dict[tuple[str, ...], list[_Figure]] = {}
    for figure in _figures(facts, (), (), None):
        tables.setdefault((*figure.table, figure.measure), []).append(figure)
    drawn = {measure for measure, _ in _intervals(facts)}
    single = [key for key, value in facts.items() if key not in drawn and _is_figure(key, value)]
    return Section(
        anchor=name.replace("_", "-"),
        title=_TITLES.get(name, words(name).capitalize()),
        note=str(facts.get("note") or ""),
        limits=list(dict.fromkeys(_limits(facts))),
        skipped=str(facts.get("skipped") or ""),
        pairs=[(words(key), _told(key, facts[key])) for key in single],
        tables=[_table(figures, number(facts.get("chance"))) for figures in tables.values()],
        plain=_plain(facts),
    )


@dataclass(frozen=True)
class _Figure:
    table: tuple[str, ...]
    names: tuple[str, ...]
    measure: str
    value: float
    interval: tuple[float, float]
    row: Facts


def _figures(value: Any, table: tuple[str, ...], names: tuple[str, ...], key: str | None) -> Iterator[_Figure]:
    """Every figure with an interval below `value`, which stands under `key`, or is an element of a list."""
    if isinstance(value, list):
        for row in value:
            if isinstance(row, Mapping):
                yield from _figures(row, table, (*names, *_row_names(row)), None)
    elif isinstance(value, Mapping):
        for measure, interval in _intervals(value):
            figure, ends = number(value[measure]), pair(value[interval])
            if figure is not None and ends is not None:
                generic = key is not None and measure in _GENERIC
                told = str(key) if generic else measure
                if generic and interval == "difference_interval" and "interval" in value:
                    told = f"{key}, difference"
                named = names if generic or key is None else (*names, str(key))
                yield _Figure(table, named, told, figure, ends, value)
        for inner_key, inner in value.items():
            named_list = isinstance(inner, list) and inner_key not in ("rows", "tasks")
            within = (*table, inner_key) if named_list else table
            above = names if key in (None, _GROUPS) or isinstance(inner, Mapping) else (*names, str(key))
            if not _is_elsewhere(inner_key, inner):
                yield from _figures(inner, within, above, inner_key)


def _intervals(row: Facts) -> list[tuple[str, str]]:
    """The (figure, interval) keys of a row.

    `shift_interval` is that of `shift`, and a mere `interval` that of the nearest figure before it that lies inside.
    """
    found = []
    for place, key in enumerate(row):
        if not pair(row.get(key)) or not key.endswith("interval"):
            continue
        stem = key.removesuffix("interval").removesuffix("_")
        kin = (f"{stem}_difference", stem, f"mean_{stem}", f"{stem}_share")
        owners = [own for own in kin if number(row.get(own)) is not None]
        if key == "interval":
            before = [own for own in reversed(list(row)[:place]) if not own.endswith("error")]
            owners = [own for own in before if _inside(row[own], row[key])]
        found += [(own, key) for own in owners[:1]]
    return found


def _inside(value: Any, interval: Any) -> bool:
    ends, figure = pair(interval), number(value)
    return ends is not None and figure is not None and ends[0] - 1e-9 <= figure <= ends[1] + 1e-9


def _table(figures: Sequence[_Figure], chance: float | None) -> Table:
    """The figures of one measure on one scale, with an upright bar at chance, at a half, or at zero."""
    measure = figures[0].measure
    ends = [end for figure in figures for end in (*figure.interval, figure.value)]
    share = measure in _SHARES and min(ends) >= 0
    most = 1.05 * max(map(abs, ends)) or 1.0
    reach = (0.0, 1.0) if share else (-most if min(ends) < 0 else 0.0, most)
    reference = None
    if measure in _RIGHT:
        reference = chance
    elif measure in _EVEN:
        reference = 0.5
    elif not share:
        reference = 0.0
    form = percent if share else significant
    lines = [
        Line(
            ", ".join(_named(name, figure.table) for name in figure.names) or "over all",
            strip(figure.value, figure.interval, reach, reference=reference),
            form(figure.value),
            span(figure.interval, form),
            _beside(figure.row),
        )
        for figure in figures
    ]
    title = words(", ".join((*figures[0].table, measure))).removeprefix(f"{_GROUPS}, ").capitalize()
    return Table(title, lines, f"from {form(reach[0])} to {form(reach[1])}")


def _named(name: str, table: tuple[str, ...]) -> str:
    """A row's name; that of a row among `counts` is a number of solved examples."""
    return f"{name} {'shot' if name == '1' else 'shots'}" if "counts" in table and name.isdigit() else words(name)


def _plain(facts: Facts) -> list[PlainTable]:
    """The lists of rows that have no interval: one table for the lists of one name, whatever they stand in."""
    held: dict[str, list[tuple[tuple[str, ...], Facts]]] = {}

    def walk(value: Any, names: tuple[str, ...], key: str) -> None:
        if isinstance(value, Mapping):
            for inner_key, inner in value.items():
                if not _is_elsewhere(inner_key, inner):
                    walk(inner, names, inner_key)
        elif isinstance(value, list):
            for row in value:
                if isinstance(row, Mapping):
                    named = (*names, *_row_names(row))
                    shown = [inner for inner, figure in row.items() if _is_figure(inner, figure)]
                    if shown and not _intervals(row) and not any(isinstance(inner, Mapping) for inner in row.values()):
                        held.setdefault(key, []).append((named, row))
                    walk(row, named, key)

    walk(facts, (), "")
    made = []
    for key, rows in held.items():
        keys = list(dict.fromkeys(one for _, row in rows for one, value in row.items() if _is_figure(one, value)))
        lines = [
            (
                ", ".join(map(words, names)),
                [_told(one, row[one]) if _is_figure(one, row.get(one)) else "" for one in keys],
            )
            for names, row in rows[:MOST_PLAIN]
        ]
        made.append(PlainTable(words(key).capitalize(), [words(one) for one in keys], lines, len(rows)))
    return made


def _row_names(row: Facts) -> list[str]:
    """The names of an element of a list: its texts, such as heuristic and label, or else its first figure."""
    named = [value for value in row.values() if isinstance(value, str) and len(value) <= 80]
    if named:
        return named[:4]
    figures = ((key, value) for key, value in row.items() if number(value) is not None)
    key, value = next(figures, ("", None))
    return [f"{_told(key, value)} {words(key)}"] if key else [DASH]


def _beside(row: Facts) -> str:
    """The other figures of a row, in a few words."""
    drawn = {key for keys in _intervals(row) for key in keys} | {"chance", "p"}
    others = [
        f"{words(key)} {_told(key, value)}" for key, value in row.items() if key not in drawn and _is_figure(key, value)
    ]
    p = number(row.get("p"))
    return "; ".join([*others[:4], *([f"p {significant(p, 2)}"] if p is not None else [])])


def _limits(value: Any) -> Iterator[str]:
    """The limits that an instrument and its parts state."""
    if isinstance(value, Mapping):
        if isinstance(value.get("limits"), str):
            yield value["limits"]
        for inner in value.values():
            yield from _limits(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _limits(inner)


def _is_elsewhere(key: str, value: Any) -> bool:
    return key in _UNSHOWN or (isinstance(value, list) and key in ("texts", "highest"))


def _is_figure(key: str, value: Any) -> bool:
    return key not in _UNSHOWN and not key.endswith("error") and number(value) is not None


def _told(key: str, value: Any) -> str:
    if isinstance(value, int):
        return whole(value)
    share = key in _SHARES or key.endswith("_share")
    return percent(value) if share else whole(value) if value == int(value) else significant(value)
