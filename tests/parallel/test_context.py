"""Ranks that share the tokens of each sample, against one process; and what they send each other."""

import pytest

from tests.parallel.cells import Cell, short_context_table
from tests.parallel.parity import Difference, compare
from tests.parallel.table import holds


@pytest.fixture(scope="module")
def found() -> dict[Cell, Difference | str]:
    return compare(short_context_table())


@pytest.mark.parametrize("cell", short_context_table(), ids=str)
def test_ranks_that_share_samples_take_one_process_s_steps(found: dict[Cell, Difference | str], cell: Cell) -> None:
    assert holds(found[cell]), found[cell]
