"""Each planted figure comes out as planted, and the page shows the table as it is made."""

import pytest

from benchmarks.calibrate_audit import PAGE, with_table
from megalith.audit.calibration import Planting, calibrate


@pytest.fixture(scope="module")
def rows() -> list[Planting]:
    return calibrate()


def test_every_figure_is_as_planted(rows: list[Planting]) -> None:
    assert [row for row in rows if not row.agrees] == []
    assert len(rows) > 40
    assert {row.instrument for row in rows} == {
        "hans", "hans_shots", "in_context", "association", "winogender", "winobias", "crows_pairs", "bbq",
    }  # fmt: skip


def test_a_figure_that_is_off_is_told() -> None:
    assert not Planting("hans", "any", "accuracy", 0.5, 0.501).agrees


def test_the_page_has_the_table_as_it_is_made(rows: list[Planting]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_table(page, rows) == page
