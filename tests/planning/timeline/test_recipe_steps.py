"""From a recipe to its steps: the recipe's layout, the lists that training would run, predicted or given times."""

from pathlib import Path

import pytest

from megalith.errors import InputError, RecipeError
from megalith.planning.performance import predict_step
from megalith.planning.performance.memory import estimate_memory
from megalith.planning.timeline import Given, given_durations, steps_of, title
from megalith.planning.timeline.recipe_steps import job_of
from megalith.recipe import Recipe, load_recipe
from megalith.schedules import Op, action_lists, build, write_csv

SMALL = ["parallel.pipeline=4", "parallel.data=2", "cluster.nodes=8", "train.global_batch_size=16",
         "train.batch_ramp=null"]  # fmt: skip
UNIT = given_durations("unit")


def recipe(*overrides: str) -> Recipe:
    return load_recipe("gpt3-175b", [*SMALL, *overrides])[0]


def test_the_lists_are_those_that_training_runs() -> None:
    for overrides in (
        (),
        ("parallel.schedule=interleaved-1f1b", "parallel.virtual_stages=3"),
        ("parallel.schedule=zb-h1",),
    ):
        loaded = recipe(*overrides)
        (made,) = steps_of(loaded, given=UNIT)
        assert made.lists == action_lists(loaded.parallel, 8, training=True)
        assert made.schedule == loaded.parallel.schedule


def test_several_schedules_share_one_recipe_and_only_one_of_them_its_virtual_stages() -> None:
    names = ("1f1b", "interleaved-1f1b", "zb-h1", "zb-h2", "gpipe")
    made = steps_of(recipe("parallel.virtual_stages=2", "parallel.schedule=interleaved-1f1b"), names, UNIT)
    assert [one.schedule for one in made] == list(names)
    assert [one.stages for one in made] == [4, 8, 4, 4, 4]
    assert {sum(span.end_seconds - span.start_seconds for span in one.pipeline.ranks[0]) for one in made} == {24.0}


def test_a_file_of_ones_own_is_drawn_as_it_is(tmp_path: Path) -> None:
    lists = build("gpipe", 4, 1, 8)
    write_csv(lists, tmp_path / "own.csv")
    own = str(tmp_path / "own.csv")
    assert [one.lists for one in steps_of(recipe(), [own], UNIT)] == [lists]
    assert [one.lists for one in steps_of(recipe(f"parallel.schedule_file={own}"), given=UNIT)] == [lists]
    with pytest.raises(InputError, match="cannot be read"):
        steps_of(recipe(), [str(tmp_path / "other.csv")], UNIT)


def test_given_durations_are_of_a_rank_and_a_virtual_stage_takes_its_share() -> None:
    assert given_durations("50,60,40") == Given(0.05, 0.06, 0.04)
    assert given_durations("50,60,40,2") == Given(0.05, 0.06, 0.04, 0.002)
    timing = given_durations("50,60,40,2").timing(2, 5)
    assert timing.durations == [{Op.FORWARD: 0.01, Op.INPUT_GRADIENT: 0.012, Op.WEIGHT_GRADIENT: 0.008}] * 10
    assert timing.send_seconds == [0.002] * 9


@pytest.mark.parametrize("text", ["", "50", "50,60", "50,60,x", "50,-1,2", "0,0,0", "inf,1,1", "nan,1,1", "1,2,3,4,5"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="such as 50,55,45"):
        given_durations(text)


def test_an_open_layout_is_refused_with_what_to_give() -> None:
    with pytest.raises(RecipeError, match="layout is left open"):
        steps_of(load_recipe("quickstart", ["budget.flops=2e13"])[0], given=UNIT)


@pytest.mark.parametrize(
    ("name", "said"),
    [("2f2b", "schedule '2f2b' is not known. Use one of gpipe"), ("interleaved-1f1b", "cannot be interleaved")],
)
def test_a_schedule_that_cannot_be_is_refused(name: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        steps_of(recipe(), [name], UNIT)


def test_the_title_says_the_layout() -> None:
    assert title(recipe()) == "gpt3-175b: one step of 16 sequences, tensor 8 × pipeline 4 × data 2, micro-batch 1"


@pytest.mark.parametrize("name", ["1f1b", "interleaved-1f1b", "zb-h1"])
def test_predicted_it_takes_the_cost_models_seconds_and_the_memory_models_bytes(name: str) -> None:
    loaded = recipe("parallel.virtual_stages=2")
    (made,) = steps_of(loaded, [name])
    job = job_of(loaded, name)
    assert made.step_seconds == pytest.approx(predict_step(job).seconds, rel=0.01)
    assert made.peaks == pytest.approx([rank.allocated_bytes for rank in estimate_memory(job).stages])
