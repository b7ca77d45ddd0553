"""Text of data reaches a terminal as text: never as markup, never as an escape sequence, on any encoding and width."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from megalith import console

HOSTILE = [
    "x[/red]",
    "[bold]b",
    ":smile:",
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b2J",
    "a\rb",
    "\u202etxt.exe",
    "\udcff",
]


def printed(width: int, monkeypatch: pytest.MonkeyPatch, *rows: tuple[str, ...]) -> str:
    caught = io.StringIO()
    monkeypatch.setattr(sys, "stdout", caught)
    monkeypatch.setenv("COLUMNS", str(width))
    console.show(console.table("[red]title\x1b", ("[b]name", "value"), rows))
    return caught.getvalue()


@pytest.mark.parametrize("width", [160, 40])
@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_in_a_table_is_neither_markup_nor_an_escape(
    width: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = printed(width, monkeypatch, (text, "1"))
    assert "[red]title\\x1b" in shown and "[b]name" in shown
    assert console.visible(text) in shown
    assert not set(shown) & set("\x1b\x07\x9b\r\u202e\udcff")


def test_a_name_in_a_note_or_a_progress_bar_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    caught = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=caught, force_terminal=True, markup=False, emoji=False))
    for text in HOSTILE:
        console.note(text)
    with console.progress("{task.fields[name]}") as bar:
        bar.add_task("of x[/red]", total=1234, name="[bold]b")
        bar.refresh()
    shown = caught.getvalue()
    assert "x[/red]" in shown and "of x[/red]" in shown and "[bold]b" in shown and ":smile:" in shown
    assert "\x1b[31m" not in shown and "\x1b]0" not in shown and "\u202e" not in shown
    assert "0/1,234" in shown


def test_a_byte_that_is_not_utf_8_is_shown_as_the_byte_that_it_is() -> None:
    assert console.visible(os.fsdecode(b"\xff/\x9b")) == "\\xff/\\x9b"
    assert console.visible("a\tb\nc é 你 \u202e\u2066\x00") == "a\tb\nc é 你 \\u202e\\u2066\\x00"


def test_a_table_that_does_not_fit_is_printed_as_records_with_whole_words(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "curate.heuristics.maximum_duplicate"
    wide = printed(100, monkeypatch, (long, "0.25"), ("b", "7"))
    assert f"{long}" in wide and "0.25" in wide.splitlines()[4]
    narrow = printed(44, monkeypatch, (long, "a value in words"), ("b", "7"))
    assert long in narrow and "a value in words" in narrow
    assert max(map(len, narrow.splitlines())) <= 44


def test_piped_tables_obey_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a", "word " * 40)]
    assert max(map(len, printed(70, monkeypatch, *rows).splitlines())) <= 70
    assert max(map(len, printed(1, monkeypatch, *rows).splitlines())) <= console.NARROWEST
    monkeypatch.setenv("COLUMNS", "many")


PRINT = "from megalith.console import *; settle_streams(); {}"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-c", PRINT.format(code.encode("ascii", "backslashreplace").decode())]
    return subprocess.run(command, capture_output=True, check=True, env={**os.environ, **environment})


def test_an_ascii_terminal_gets_the_nearest_characters() -> None:
    code = "show(table('2 × 3 – é', ('α', 'b'), [('你', '… and more')])); note('50 ± 1 \\udcff')"
    for ascii_alone in ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        done = run(code, **ascii_alone)
        assert b"2 x 3 - e" in done.stdout and b"alpha" in done.stdout and b"?" in done.stdout and b"..." in done.stdout
        assert b"50 +- 1 \\xff" in done.stderr


def test_a_models_text_keeps_its_bytes_in_a_pipe_and_is_visible_on_a_terminal() -> None:
    code = "write_text('\\x1b[31mé')"
    assert run(code, PYTHONIOENCODING="utf-8").stdout == "\x1b[31mé\n".encode()
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", PRINT.format(code)], stdout=theirs, check=True)
    os.close(theirs)
    assert b"\\x1b[31m" in os.read(ours, 1000)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_is_opened_in_the_place_of_a_closed_stream(closed: str, tmp_path: Path) -> None:
    code = (
        "import os\nfrom megalith.console import *\nsettle_streams()\nshow(table('a', ('b',), [('c',)]))\nnote('d')\n"
        f"assert os.open({str(tmp_path / 'f')!r}, os.O_CREAT) > 2"
    )
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], check=False)
    assert done.returncode == 0
