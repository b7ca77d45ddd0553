"""What a person sees: tables on standard output, progress bars and one-line notes on standard error.

With `--json`, nothing is shown on standard output but the one object.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

LOG_WIDTH = 160  # columns where there is no terminal to ask

console = Console(stderr=True, highlight=False)
_output = Console(highlight=False)
if not _output.is_terminal:
    _output = Console(highlight=False, width=LOG_WIDTH)


def show(renderable: RenderableType) -> None:
    """Print a table (or anything rich can draw) on standard output."""
    _output.print(renderable)


def note(text: str) -> None:
    """Print one line for the person at the terminal."""
    console.print(text, markup=False, soft_wrap=True)


@contextmanager
def progress(*columns: str) -> Iterator[Progress]:
    """A progress display: spinner, description, bar, count, the `columns` (rich markup over task fields), times.

    On a terminal the bar vanishes when the work is done; elsewhere (a log file) nothing is drawn.
    """
    layout = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        *[TextColumn(column) for column in columns],
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*layout, console=console, transient=True, disable=not console.is_terminal) as display:
        yield display


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[object]], *, left: int = 1) -> Table:
    """A table whose first `left` columns are left-aligned text and whose others are right-aligned figures."""
    made = Table(
        title=title, title_justify="left", title_style="bold", header_style="bold", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for index, heading in enumerate(headings):
        made.add_column(heading, justify="left" if index < left else "right", overflow="fold")
    for row in rows:
        made.add_row(*[str(cell) for cell in row])
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
    """A duration as people say it: 850 ms, 42.1 s, 6 min 05 s, 3.2 h, 24 days."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.3g} days"
