"""Layouts against one process, five steps each; `make parity` has the whole table."""

import pytest

from tests.parallel.cells import Cell, covering, placements, short_table, whole_table
from tests.parallel.parity import Difference, compare
from tests.parallel.table import holds


@pytest.fixture(scope="module")
def found() -> dict[Cell, Difference | str]:
    return compare(short_table())


@pytest.mark.parametrize("cell", short_table(), ids=str)
def test_a_layout_takes_the_steps_of_one_process(found: dict[Cell, Difference | str], cell: Cell) -> None:
    assert holds(found[cell]), found[cell]


def test_the_whole_table_has_every_pair_of_choices() -> None:
    every = list(placements())
    assert len(set(every)) == 121
    chosen = covering(every, 2)
    assert len(chosen) < 40
    assert {(cell.schedule, cell.zero) for cell in chosen} == {(cell.schedule, cell.zero) for cell in every}
    assert {(cell.tensor, cell.pipeline) for cell in chosen} == {(cell.tensor, cell.pipeline) for cell in every}
    assert len(set(whole_table())) == len(whole_table())
