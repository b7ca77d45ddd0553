"""The terminal: tables on standard output, progress bars and one-line notes on standard error.

With `--json`, standard output holds the one object and nothing else. No text of data is ever read as markup, and its
control characters are made visible.
"""

import codecs
import io
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

LOG_WIDTH = 160
"""Columns where neither a terminal nor COLUMNS says how many."""
NARROWEST = 40
SENTENCE_WIDTH = 16
_YEAR = 365.25 * 86400

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_SIGNS = dict(zip("–—−×·’“”", "---x.'\"\"", strict=True)) | {
    "…": "...", "±": "+-", "≤": "<=", "≥": ">=", "√": "sqrt", "α": "alpha", "β": "beta", "→": "->"
}  # fmt: skip

console = Console(stderr=True, highlight=False, markup=False, emoji=False)


def visible(text: str) -> str:
    """Control characters, bidirectional overrides and halves of characters as escapes: `\\x1b`, `\\u202e`.

    Line feeds and tabs stay. A byte that was not UTF-8 (of a path, or an argument) is shown as that byte.
    """
    return _UNSEEN.sub(lambda found: _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def settle_streams() -> None:
    """Have every text printed on any terminal: where its encoding lacks a character, in the nearest characters.

    A standard stream that is closed leads to nowhere, so that no file of ours is opened in its place.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    codecs.register_error("megalith.nearest", _nearest)
    sys.stdin, sys.stdout, sys.stderr = sys.stdin or _nowhere(), sys.stdout or _nowhere(), sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="megalith.nearest")


def _nowhere() -> TextIO:
    return Path(os.devnull).open("r+", encoding="utf-8")


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(_in_ascii, text)), error.end


def _in_ascii(character: str) -> str:
    if 0xD800 <= ord(character) <= 0xDFFF:
        return _escape(ord(character))
    plain = _SIGNS.get(character) or unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or "?"


def show(renderable: RenderableType) -> None:
    """Print a table (or anything rich can draw) on standard output, as wide as the terminal or COLUMNS says.

    A table whose words do not fit is printed as records: a line for each cell.
    """
    output = _standard_output()
    if isinstance(renderable, Table):
        if renderable.title:  # by itself, since a table wraps it at its own width
            output.print(Text(str(renderable.title), style="bold"))
            renderable.title = None
        if _least_width(renderable) > output.width:
            _show_records(output, renderable)
            return
    output.print(renderable)


def _least_width(shown: Table) -> int:
    """Columns at which no word is broken, no column that is not to wrap is cut, and sentences have some room."""
    least = 3 * len(shown.columns) - 1  # of padding and rules
    for column in shown.columns:
        texts = [str(column.header), *map(str, column.cells)]
        lines = [line for text in texts for line in text.splitlines()]
        longest = max(map(cell_len, lines), default=0)
        words = max((cell_len(word) for line in lines for word in line.split()), default=0)
        least += longest if column.no_wrap else max(words, min(longest, SENTENCE_WIDTH))
    return least


def _standard_output() -> Console:
    output = Console(highlight=False, markup=False, emoji=False)
    said = os.environ.get("COLUMNS", "")
    width = output.width if output.is_terminal or said.isdigit() else LOG_WIDTH
    output.width = max(width, NARROWEST)
    return output


def _show_records(output: Console, shown: Table) -> None:
    headings = [str(column.header) for column in shown.columns]
    width = max(map(len, headings), default=0)
    for cells in zip(*(column.cells for column in shown.columns), strict=True):
        lines = Table.grid(padding=(0, 2, 0, 0))
        lines.add_column(no_wrap=True, min_width=width, style="bold")
        lines.add_column(overflow="fold")
        for heading, cell in zip(headings, cells, strict=True):
            if str(cell).strip():
                lines.add_row(heading, cell)
        output.print(lines)
        output.print()


def note(text: str) -> None:
    """Print one line for the person at the terminal; it is wrapped at words there, and whole in a log."""
    console.print(visible(text), soft_wrap=not console.is_terminal)


def write_text(text: str) -> None:
    """Write a text of a model or a corpus on standard output: as it is into a pipe or a file, visible on a terminal."""
    sys.stdout.write((visible(text) if sys.stdout.isatty() else text) + "\n")


class _Count(ProgressColumn):
    """Pieces done and all of them: `1,200/30,000`."""

    def render(self, task: Task) -> Text:
        total = "?" if task.total is None else f"{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}/{total}", style="progress.download")


@contextmanager
def progress(*columns: str) -> Iterator[Progress]:
    """A progress display: spinner, description, bar, count, the `columns` (formats over task fields), times.

    On a terminal the bar vanishes when the work is done; elsewhere (a log file) nothing is drawn.
    """
    layout = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        _Count(),
        *[TextColumn(column, markup=False) for column in columns],
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*layout, console=console, transient=True, disable=not console.is_terminal) as display:
        yield display


@contextmanager
def steps_shown() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what is being done now: behind a spinner on a terminal, a line each elsewhere."""
    if not console.is_terminal:
        yield lambda text: note(f"{'':5}  {text}")
        return
    with console.status("") as status:
        yield lambda text: status.update(Text(visible(text)))


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are left-aligned text and whose others are right-aligned figures."""
    made = Table(
        title=visible(title),
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for index, heading in enumerate(headings):
        made.add_column(visible(heading), justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*[Text(visible(str(cell))) for cell in row])
    return made


def human_count(number: float) -> str:
    """A count at three significant digits with the field's suffixes: 1.24M, 530B."""
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size * 0.9995:
            return f"{number / size:.3g}{suffix}"
    return f"{number:.3g}"


def human_bytes(number: float) -> str:
    """Bytes in powers of 1000: 8.21 MB."""
    for size, suffix in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(number) >= size * 0.9995:
            return f"{number / size:#.3g}".rstrip(".") + f" {suffix}"
    return f"{number:.0f} B"


def human_seconds(seconds: float) -> str:
    """A duration as people say it: 850 ms, 42.1 s, 6 min 05 s, 3.2 h, 24 days, 41 years."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds < 2 * _YEAR:
        return f"{seconds / 86400:.3g} days"
    return f"{float(f'{seconds / _YEAR:.2g}'):,.0f} years"
