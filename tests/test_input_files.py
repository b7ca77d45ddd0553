"""A file of a user or of an earlier stage is read whole, or refused with its name, the reason and the mend."""

import csv
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from megalith.errors import InputError
from megalith.input_files import csv_field_limit, parse_json, read_bytes, read_json, read_model, read_text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' * 5000 + b"1" + b"}" * 5000, "nested too deeply"),
        (b"9" * 5000, "thousands of digits"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b"{}\n{}\n\xff", "not UTF-8: byte 0xff in line 3"),
        (b'{"a": }', "expecting value (line 1)"),
        (b"", "expecting value"),
        (b"{'a': 1}", "this is not JSON"),
        (b"{} {}", "extra data"),
    ],
)
def test_what_is_not_json_is_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="Run it again") as caught:
        read_json(path, mend="Run it again.")
    assert said in caught.value.what
    assert caught.value.where == str(path)


def test_json_with_a_byte_order_mark_and_whole_characters_is_read(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(b'\xef\xbb\xbf{"clef": "\\ud834\\udd1e"}')
    assert read_json(path) == {"clef": "\N{MUSICAL SYMBOL G CLEF}"}
    assert parse_json('["\\ud834\\udd1e"]', where="line 3") == ["\N{MUSICAL SYMBOL G CLEF}"]


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\uD834": 1}'])
def test_half_a_character_in_a_users_line_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="lone surrogate"):
        parse_json(text, where="items.jsonl, line 3")


def test_what_is_no_regular_file_is_refused_and_nothing_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place, said in [
        (tmp_path, "a directory"),
        (tmp_path / "pipe", "a named pipe"),
        (Path("/dev/zero"), "a device"),
        (tmp_path / "absent", "No such file"),
        (tmp_path / "absent\0", "null"),
        (tmp_path / ("n" * 300), "File name too long"),
    ]:
        with pytest.raises(InputError, match=said):
            read_bytes(place)


def test_a_huge_file_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match="larger than 1,000 bytes"):
        read_text(tmp_path / "huge", most=1000)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"seed": "x"}', "{}", "nothing"])
def test_a_model_is_read_or_refused_in_words(tmp_path: Path, content: str) -> None:
    class Facts(BaseModel):
        seed: int

    path = tmp_path / "facts.json"
    path.write_text(content)
    with pytest.raises(InputError, match="does not hold what it should"):
        read_model(path, Facts)
    good: Any = '{"seed": 3}'
    path.write_text(good)
    assert read_model(path, Facts).seed == 3


def test_csvs_limit_is_as_before_behind_an_error_and_threads_that_overlap() -> None:
    before = csv.field_size_limit()
    with pytest.raises(csv.Error, match="field larger"), csv_field_limit(3):
        next(csv.reader(["four"]))
    assert csv.field_size_limit() == before
    inside, leave, seen = threading.Event(), threading.Event(), []

    def first() -> None:
        with csv_field_limit(before + 1):
            inside.set()
            leave.wait()

    def second() -> None:
        inside.wait()
        with csv_field_limit(before + 2):
            seen.append(leave.is_set())

    threads = [threading.Thread(target=one) for one in (first, second)]
    for thread in threads:
        thread.start()
    threads[1].join(0.2)
    leave.set()
    for thread in threads:
        thread.join()
    assert seen == [True], "the second waits: else the first would take its limit away"
    assert csv.field_size_limit() == before
