"""Reading a table of runs: columns by name, conventions, what is left out, and refusals that name the line."""

from pathlib import Path

import pytest

from megalith.errors import InputError
from megalith.scaling import read_points, read_runs


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


def table(tmp_path: Path, text: str) -> Path:
    (tmp_path / "runs.csv").write_text(text)
    return tmp_path / "runs.csv"


def test_columns_have_their_usual_names_and_numbers_may_be_short(tmp_path: Path) -> None:
    runs = read_runs(
        table(tmp_path, "Num Params,Training Tokens,Val Loss (nats),Epochs\n70M,1.4B,3.1,2\n1e9,2_000,2.5,1\n")
    )
    assert runs.points.parameters.tolist() == [70e6, 1e9]
    assert runs.points.tokens.tolist() == [1.4e9, 2000]
    assert runs.points.unique_tokens.tolist() == [0.7e9, 2000]
    assert runs.described() == (
        "2 runs; N: all parameters; FLOPs: 6·N·D; loss: nats per token, validation (the column Val Loss (nats))"
    )


def test_conventions_are_said_and_chosen(tmp_path: Path) -> None:
    """FLOPs from a column are told beside 6·N·D, and N by either convention where both are there."""
    path = table(
        tmp_path, "params,non_embedding_params,tokens,flops,loss\n2e6,1e6,1e7,1.5e14,4\n4e6,3e6,1e7,2.4e14,3\n"
    )
    runs = read_runs(path)
    assert "FLOPs: the column flops, 1 to 1.25 times 6·N·D" in runs.described()
    assert set(runs.counts) == {"total", "non_embedding"}
    other = read_runs(path, parameters="non_embedding")
    assert other.points.parameters.tolist() == [1e6, 3e6]
    assert other.described().startswith("2 runs; N: parameters without embeddings and head")
    with pytest.raises(InputError, match="Use total or non_embedding"):
        read_runs(path, parameters="with_head")


def test_rows_are_chosen_and_those_without_a_loss_are_counted(tmp_path: Path) -> None:
    path = table(tmp_path, "n,d,loss,set\n1e6,1e7,4,a\n1e6,2e7,,a\n1e6,3e7,3,b\n1e6,4e7,9,a\n")
    runs = read_runs(path, only=["set=a"], drop_highest=1)
    assert runs.points.loss.tolist() == [4]
    assert runs.left_out == ("1 rows without a loss", "1 runs with the highest losses (--drop-highest 1)")
    for only, said in (
        ("set=c", "no row has set=c"),
        ("sett=a", "'sett=a' does not name a column"),
        ("set", "COLUMN=VALUE"),
    ):
        with pytest.raises(InputError, match=said):
            read_runs(path, only=[only])
    with pytest.raises(InputError, match="--drop-highest"):
        read_runs(path, drop_highest=4)


def test_a_learning_rate_that_had_not_fallen_is_warned_of(tmp_path: Path) -> None:
    runs = read_runs(table(tmp_path, "n,d,loss,decay_tokens\n1e6,1e7,4,1e7\n1e6,2e7,3,3e7\n"))
    assert runs.warnings() == [
        "1 runs end before their learning rate has fallen (it would after up to 1.5 times their tokens): their losses "
        "are too high (2203.15556 §B)"
    ]
