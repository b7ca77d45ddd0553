"""The parts of a step: that they add up, that each is what its constant does, and that the picture has them all."""

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from megalith.cli import app
from megalith.errors import UnsupportedError
from megalith.job import Job
from megalith.planning.performance import constants_for, predict_step
from megalith.planning.waterfall import explain_layouts, waterfall, write_waterfalls
from megalith.planning.waterfall.picture import bars, widest_of
from megalith.recipe import load_recipe
from megalith.topology import describe


def job(*overrides: str) -> Job:
    recipe = load_recipe("mt-nlg-530b", ["cluster.nodes=280", "parallel.data=8", *overrides])[0]
    return Job.of(recipe, describe(recipe.cluster))


@pytest.mark.parametrize(
    "overrides",
    [[], ["parallel.recompute=full", "parallel.sequence_parallel=false"], ["parallel.schedule=zb-h1"],
     ["parallel.zero=3", "train.micro_batch_size=2"]],
)  # fmt: skip
def test_the_parts_add_up_to_the_step(overrides: list[str]) -> None:
    fall = waterfall(job(*overrides))
    assert sum(part.seconds for part in fall.parts) == pytest.approx(predict_step(fall.job).seconds, rel=1e-9)
    assert fall.parts[0].name == "ideal FLOPs"
    names = [part.name for part in fall.parts]
    assert len(set(names)) == len(names)


def test_the_ideal_is_the_step_at_an_mfu_of_one() -> None:
    fall = waterfall(job())
    assert fall.parts[0].seconds == pytest.approx(fall.step.mfu * fall.step.seconds)


def test_a_part_grows_with_the_constant_that_it_is_of_and_the_other_kernels_stay() -> None:
    known = constants_for(job())
    slower = replace(known, launch_seconds=2 * known.launch_seconds)
    before, after = ({part.name: part.seconds for part in waterfall(job(), one).parts} for one in (known, slower))
    assert after["launches"] == pytest.approx(2 * before["launches"])
    for name in ("products below the peak", "shapes of products", "attention", "uneven stages"):
        assert after.get(name) == pytest.approx(before.get(name))


def test_bars_follow_one_another_and_end_at_the_step() -> None:
    fall = waterfall(job())
    drawn = bars(fall, widest_of([fall]))
    for bar, after in pairwise(drawn):
        ends = {round(bar.begin, 9), round(bar.end, 9)}
        assert ends & {round(after.begin, 9), round(after.end, 9)}
    assert drawn[-1].end == pytest.approx(fall.step.seconds / widest_of([fall]))


def test_pages_and_pictures_have_every_part_of_both_layouts(tmp_path: Path) -> None:
    falls, found = explain_layouts("mt-nlg-530b", ["cluster.nodes=280", "parallel.data=8"], ["parallel.recompute=none"])
    assert [one["layout"]["recompute"] for one in found["layouts"]] == ["full", "none"]
    page = write_waterfalls(tmp_path / "step.html", "A step", falls).read_text(encoding="utf-8")
    picture = write_waterfalls(tmp_path / "step.svg", "A step", falls).read_text(encoding="utf-8")
    for fall in falls:
        for part in fall.parts:
            assert part.name in page
            assert part.name in picture
    assert not re.search(r"https?://(?!www\.w3\.org)", page + picture)  # they fetch nothing


def test_a_recipe_without_a_layout_has_the_best_and_this_machine_is_refused() -> None:
    recipe = load_recipe("gpt2-8.3b", ["cluster=dgx-a100", "cluster.nodes=2", "parallel={}"])[0]
    falls, _ = explain_layouts(recipe, (), ["best"])
    assert falls[0].job == falls[1].job
    with pytest.raises(UnsupportedError, match="measured"):
        explain_layouts("quickstart", (), ())


def test_the_command_shows_two_layouts_side_by_side(tmp_path: Path) -> None:
    args = ["plan", "explain", "mt-nlg-530b", "cluster.nodes=280", "parallel.data=8", "--beside", "parallel.zero=0"]
    shown = CliRunner().invoke(app, [*args, "-o", str(tmp_path / "step.svg")], env={"COLUMNS": "160"})
    assert shown.exit_code == 0, shown.output
    assert "ideal FLOPs" in shown.output
    refused = CliRunner().invoke(app, [*args, "-o", str(tmp_path / "step.png")])
    assert refused.exit_code == 2
    assert "svg" in refused.output
