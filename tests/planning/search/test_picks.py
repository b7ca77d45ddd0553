"""The model's pick among measured layouts: by rows made up, and by those that were published."""

import csv
from pathlib import Path

import pytest

from megalith.planning.calibration.published_runs import read_table
from tests.planning.search.picks import picks

HEADINGS = ["dataset", "row_id", "gpu", "n_gpus", "layers", "hidden", "heads", "vocab", "seq", "tp", "pp", "dp", "mbs",
            "gbs", "recompute", "precision", "step_time_s", "status"]  # fmt: skip


def table(path: Path, *rows: tuple[int, int, int, float]) -> Path:
    """Rows of one model on 64 GPUs, by tp, pp, dp and seconds."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADINGS)
        for number, (tp, pp, dp, seconds) in enumerate(rows):
            shape = ("A100-SXM-80GB", 64, 32, 4096, 32, 51200, 2048)
            writer.writerow(("mine", f"mine-{number}", *shape, tp, pp, dp, 1, 64, "full", "bf16", seconds, "ok"))
    return path


def test_the_regret_is_what_the_pick_lost_against_the_best_measured(tmp_path: Path) -> None:
    """A tensor group of 32 is never picked: measured as the best, it is what is lost against."""
    rows, _ = read_table(table(tmp_path / "t.csv", (8, 1, 8, 12.0), (8, 1, 8, 10.0), (32, 1, 2, 8.8)))
    (choice,) = picks(rows)
    assert choice.picked.layout.tensor == 8
    assert choice.best.layout.tensor == 32
    assert choice.regret == pytest.approx(11.0 / 8.8 - 1)  # the mean of the two that were measured


def test_one_layout_alone_is_no_choice(tmp_path: Path) -> None:
    rows, _ = read_table(table(tmp_path / "t.csv", (8, 1, 8, 12.0), (8, 1, 8, 10.0)))
    assert picks(rows) == []


@pytest.mark.data
def test_among_blooms_measured_layouts_the_pick_is_mostly_within_5_percent_of_the_best(data_directory: Path) -> None:
    rows, _ = read_table(data_directory / "measurements" / "layouts.csv")
    choices = picks(row for row in rows if row.dataset == "bloom_prequel")
    assert len(choices) >= 10
    within = [choice for choice in choices if choice.regret <= 0.05]
    assert len(within) / len(choices) >= 0.75
    assert sum(choice.regret for choice in choices) / len(choices) <= 0.03
