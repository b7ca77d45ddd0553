"""Reading runs: tokens or FLOPs, and refusals that name the line."""

from pathlib import Path

import pytest

from megalith.errors import InputError
from megalith.scaling import read_points


def test_flops_are_turned_into_tokens(tmp_path: Path) -> None:
    by_flops, by_tokens = tmp_path / "flops.csv", tmp_path / "tokens.csv"
    by_flops.write_text("parameters,flops,loss\n1e6,6e13,4.5\n2e6,6e14,4.0\n")
    by_tokens.write_text("loss,tokens,parameters,note\n4.5,1e7,1e6,x\n4.0,5e7,2e6,y\n")
    one, other = read_points(by_flops), read_points(by_tokens)
    assert one.tokens.tolist() == other.tokens.tolist() == pytest.approx([1e7, 5e7])
    assert len(one) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("parameters,loss\n1e6,4.5\n", "flops is missing"),
        ("parameters,tokens\n1e6,1e7\n", "loss is missing"),
        ("", "parameters is missing"),
        ("parameters,tokens,loss\n1e6,1e7,4.5\n1e6,many,4.5\n", "runs.csv:3: tokens is 'many'"),
        ("parameters,tokens,loss\n1e6,1e7,nan\n", "runs.csv:2: loss is 'nan'"),
        ("parameters,tokens,loss\n1e6,-1,4\n", "tokens is '-1'"),
        ("parameters,tokens,loss\n1e6\n", "tokens is None"),
    ],
)
def test_what_is_no_table_of_runs_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_points(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_points(tmp_path / "none.csv")


def test_a_device_is_refused() -> None:
    with pytest.raises(InputError, match="not a regular file"):  # another, such as /dev/zero, has no end
        read_points(Path("/dev/null"))
