"""The winner among the few that are played, where playing them says other than the closed form."""

import pytest

from megalith.job import Job
from megalith.planning.performance import StepTime
from megalith.planning.search.branch_and_bound import fastest
from megalith.planning.search.objectives import CLOSED_ERROR, best_layout
from megalith.planning.search.space import Question, Space
from megalith.recipe import load_recipe
from megalith.topology import Layout, describe
from tests.planning.search.fakes import Told, parts_of, step_of


class Played(Told):
    """Played, steps in one layout take so many times as long."""

    def __init__(self, slow: Layout, times: float) -> None:
        super().__init__()
        self.slow, self.times = slow, times
        self.played: list[Layout] = []

    def step(self, job: Job, *, exact: bool = False) -> StepTime:
        if exact:
            self.played.append(job.layout)
        times = self.times if exact and job.layout == self.slow else 1.0
        return step_of({name: times * seconds for name, seconds in parts_of(job).items()}, job)


@pytest.fixture
def question() -> Question:
    recipe = load_recipe("gpt3-175b", ["cluster.name=selene", "cluster.nodes=8", "parallel={}"])[0]
    return Question(recipe.model, describe(recipe.cluster), 64)


def test_a_layout_that_its_closed_form_flatters_loses_to_the_next(question: Question) -> None:
    first, second = fastest(Space(question), Told()).best[:2]
    assert second.seconds > first.seconds * (1 + CLOSED_ERROR)  # too far behind, by the closed form
    evaluator = Played(first.job.layout, times=1.5 * second.seconds / first.seconds)
    found = best_layout(question, evaluator)
    assert found is not None
    assert found.best.job == second.job
    assert found.best.seconds == pytest.approx(second.seconds)


def test_what_is_far_behind_what_was_played_is_not_played(question: Question) -> None:
    evaluator = Played(Layout(1, 1, 1), times=1.0)
    found = best_layout(question, evaluator)
    assert found is not None
    assert evaluator.played == [found.best.job.layout]
