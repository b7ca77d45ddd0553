"""The two hundred faults that `python -m tests.faults` plants: which they are, and that a wrong result is seen."""

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.__main__ import table
from tests.faults.plants import FLIPPED, KILLS, KINDS, LAYOUTS, STEPS, Fault, draw
from tests.faults.runs import Outcome, Whole, unbroken, with_fault


def test_two_hundred_faults_are_of_every_kind_on_every_layout_and_are_the_same_again() -> None:
    faults = [draw(7, number) for number in range(200)]
    assert faults == [draw(7, number) for number in range(200)]
    pairs = Counter((fault.kind, fault.layout) for fault in faults)
    assert set(pairs) == {(kind, layout) for kind in KINDS for layout in (FLIPPED if kind == "bit flip" else LAYOUTS)}
    assert min(pairs.values()) >= 4
    assert all(0 < fault.step < STEPS for fault in faults)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return unbroken("single", tmp_path_factory.mktemp("whole") / "run")


def test_a_killed_run_recovers_and_another_result_would_be_seen(tmp_path: Path, whole: Whole) -> None:
    fault = Fault(0, "kill a rank", "single", 0, 12, 0.1)
    found = with_fault(fault, whole, tmp_path / "run")
    assert (found.recovered, found.lost_steps, found.silent, found.deleted) == (True, 0, False, 0), found
    assert found.recovery_seconds is not None
    other = Whole(whole.steps, {name: content[:-1] + b"x" for name, content in whole.weights.items()}, 1.0)
    assert with_fault(Fault(0, "NaN", "single", 0, 12, 0.1), other, tmp_path / "other").silent


def test_the_table_has_a_row_for_each_kind() -> None:
    fault = draw(7, 0)
    outcome = Outcome(fault, True, 0, False, 0, 1.5, 31, 3.0, 2.0)
    rows = table([outcome]).splitlines()
    assert [row.split("  ")[0].strip() for row in rows] == ["", *KINDS, "all"]
    assert fault.kind in KILLS
    assert rows[1].split()[-7:] == ["1", "1", "0", "0", "0", "1.5", "1.5"]
