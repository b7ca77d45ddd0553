"""A user's own list: read as torch reads it, and refused with file and line where it is none."""

from pathlib import Path

import pytest
from torch.distributed.pipelining import schedules as torch_schedules

from megalith.errors import InputError
from megalith.schedules import NAMES, build, check, read_csv, write_csv
from tests.schedules.lowering import as_torch, bare


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_by_us_and_by_torch(name: str, tmp_path: Path) -> None:
    path, virtual_stages = tmp_path / "schedule.csv", 2 if name == "interleaved-1f1b" else 1
    lists = build(name, 4, virtual_stages, 8)
    write_csv(lists, path)
    assert read_csv(path, 4) == lists
    runtime = bare(torch_schedules._PipelineScheduleRuntime, 4, virtual_stages, 8)
    runtime.pipeline_order = {}
    runtime._load_csv(str(path), format="compute_only")
    assert runtime.pipeline_order == as_torch(lists)


def test_blank_cells_and_rows_and_a_byte_order_mark_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "spreadsheet.csv"
    path.write_bytes(b"\xef\xbb\xbf0F0,,, 0B0 \r\n,1F0,1B0,\r\n,,,\r\n\r\n")
    lists = read_csv(path, 2)
    assert [list(map(str, actions)) for actions in lists] == [["0F0", "0B0"], ["1F0", "1B0"]]
    check(lists, 2, 1, 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"0F0,0B0\n1F0,1X0\n", "mine.csv:2: '1X0' is not an action. Write stage, operation, micro-batch, such as 0F3"),
        (b"0F0,0SEND_F0,0B0\n", "'0SEND_F0' is not an action.* Sends, receives and the rest follow"),
        (b"0F\n", "'0F' is not an action"),
        ("0F٣\n".encode(), "'0F٣' is not an action"),
        (b"0F" + b"9" * 5000, "is not an action"),
        (b"0F0;0B0\n1F0;1B0\n", "'0F0;0B0' is not an action"),
        (b"0F0,0B0\n", "rows with actions is 1, and parallel.pipeline is 2"),
        (b"", "rows with actions is 0"),
        (b"\xff\xfe0\x00F\x00", "is not UTF-8"),
        (b'"' + b"x" * 200_000 + b'"', "cannot be read|is not an action"),  # csv's limit is one of the process
    ],
)
def test_what_is_no_list_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_csv(path, 2)


def test_a_missing_file_a_directory_and_a_device_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path, Path("/dev/null")):
        with pytest.raises(InputError, match=r"cannot be read|not a regular file"):
            read_csv(path, 2)
