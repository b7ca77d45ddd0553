"""The reasons: each is the one that the figures were made to have."""

from dataclasses import replace

import pytest

from megalith.job import Job
from megalith.planning.search.candidate import Candidate
from megalith.planning.search.explain import why
from megalith.recipe import load_recipe
from megalith.topology import Layout, describe
from tests.planning.search.fakes import candidate

GB = 1e9
PARTS = {"computing": 8.0, "tensor communication": 1.0, "pipeline bubble": 1.0}
HELD = {"weights": 30 * GB, "activations": 20 * GB}


@pytest.fixture
def best() -> Candidate:
    recipe = load_recipe("mt-nlg-530b", ["cluster.nodes=280", "parallel.data=8"])[0]
    return candidate(Job(recipe.model, describe(recipe.cluster), Layout(8, 35, 8), 1, 1920), PARTS, HELD)


def other(best: Candidate, parts: dict[str, float], held: dict[str, float], **changed: object) -> Candidate:
    job = replace(best.job, **changed)  # type: ignore[arg-type]  # fields of a job
    return candidate(job, {**PARTS, **parts}, {**HELD, **held})


def test_memory_comes_first_with_how_much_is_over_and_of_what(best: Candidate) -> None:
    over = other(best, {"computing": 7.0}, {"activations": 64.98667 * GB})
    assert why(over, best) == "memory over by 10.0 GB (activations 65.0 GB, weights 30.0 GB); 10.0% faster if it fitted"


def test_time_is_told_by_what_takes_longer_and_the_largest_gain(best: Candidate) -> None:
    slower = other(best, {"pipeline bubble": 2.0, "tensor communication": 1.5, "computing": 7.8}, {})
    assert why(slower, best) == ("13.0% slower: pipeline bubble +10.0%, tensor communication +5.0%, computing -2.0%")


def test_a_tensor_group_that_leaves_its_node_is_named(best: Candidate) -> None:
    crossing = other(best, {"tensor communication": 4.0}, {}, layout=Layout(16, 35, 4))
    assert why(crossing, best).startswith("30.0% slower: tensor communication +30.0% (groups of 16 cross nodes of 8)")


def test_a_longer_bubble_is_told_with_its_stages_and_micro_batches(best: Candidate) -> None:
    deeper = other(best, {"pipeline bubble": 3.0}, {}, layout=Layout(8, 70, 4))
    assert why(deeper, best) == "20.0% slower: pipeline bubble +20.0% (70 stages, 480 micro-batches)"


def test_what_is_as_fast_is_told_by_its_memory(best: Candidate) -> None:
    same = other(best, {}, {"activations": 30 * GB})
    assert why(same, best) == "as fast, and holds 60.0 GB for 50.0 GB"
