"""Small drawings: where the dot and the ends stand, and how tall the bars are."""

import re

import pytest

from megalith.report.strips import histogram, strip


def test_a_dot_its_interval_and_chance_stand_where_they_should() -> None:
    drawn = strip(0.5, (0.25, 1.0), (0.0, 1.0), reference=0.25)
    assert 'cx="75.0"' in drawn and "M40.5 9H144.0" in drawn and "M40.5 2V16" in drawn
    assert drawn.count("l4 4") == drawn.count("l-4 4") == 0


def test_ends_beyond_the_scale_are_arrows_and_a_dot_beyond_it_is_not_drawn() -> None:
    drawn = strip(3.0, (-2.0, 4.0), (-1.0, 1.0), reference=0.0, margin=0.5)
    assert "l4 4" in drawn and "l-4 4" in drawn and "<circle" not in drawn
    assert 'class="band" x="40.5" y="2" width="69.0"' in drawn
    assert strip(None, None, (0, 1)) == ""


def test_stacked_bars_have_the_heights_of_their_counts() -> None:
    drawn = histogram([0.0, 1.0, 2.0], [("a", [2, 0]), ("b", [2, 1])], description="<b>")
    heights = [float(found) for found in re.findall(r'class="(?:full|pale)"[^>]* height="([\d.]+)"', drawn)]
    assert heights[0] == heights[1] == pytest.approx(2 * heights[2], abs=0.11)
    assert "&lt;b&gt;" in drawn
