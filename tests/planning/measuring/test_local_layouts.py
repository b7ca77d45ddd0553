"""The search, told beforehand what it will measure."""

from collections.abc import Mapping
from typing import Any

import pytest

from megalith.errors import RecipeError, ResourceError
from megalith.planning.measuring.layout_trials import LocalLayout
from megalith.planning.measuring.local_layouts import BEST_FEW, MOST_SLOW, search_layouts
from megalith.recipe import Recipe, load_recipe
from tests.planning.measuring.fakes import RATES, install

Question = Mapping[str, Any]
SIZED = ("model.num_layers=4", "model.hidden_size=128", "model.num_heads=4", "train.tokens=40960")


def recipe(*overrides: str) -> Recipe:
    return load_recipe("quickstart", [*SIZED, *overrides])[0]


def even(question: Question) -> float:
    """All layouts are equally fast: seconds go with sequences, and inversely with threads."""
    return 0.01 * question["micro_batch_size"] / question["threads"]


def test_when_nothing_is_faster_the_default_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, even)
    search = search_layouts(recipe(), RATES)
    assert search.best.layout == LocalLayout(data=1, threads_per_process=4, micro_batch_size=16, precision="fp32")
    assert search.best.step_seconds == pytest.approx(0.01 * 16 / 4 + 0.001)
    assert "default" in search.best.why


@pytest.mark.parametrize(("gain", "taken"), [(0.97, "fp32"), (0.90, "bf16")])
def test_noise_does_not_change_the_precision_but_a_real_gain_does(
    gain: float, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, lambda q: even(q) * (gain if q["precision"] == "bf16" else 1.0))
    assert search_layouts(recipe(), RATES).best.layout.precision == taken


def test_more_processes_are_taken_where_they_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, lambda q: 0.01 * q["micro_batch_size"] / q["threads"] ** 0.5)  # threads scale badly
    search = search_layouts(recipe(), RATES)
    assert (search.best.layout.data, search.best.layout.threads_per_process) == (4, 1)
    assert search.best.step_seconds == pytest.approx(0.01 * 4 + 0.001 + 0.002)
    assert {candidate.layout.data for candidate in search.trials} == {1, 2, 4}


def test_precision_comes_last_and_for_the_best_few_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = install(monkeypatch, lambda q: 0.01 * q["micro_batch_size"] / q["threads"] ** 0.5)
    search_layouts(recipe(), RATES)  # of which bf16's is the greater
    asked = [(q["data"], q["micro_batch_size"], q["precision"]) for q in workers.asked]
    first_fp32 = next(index for index, (_, _, precision) in enumerate(asked) if precision == "fp32")
    assert {precision for _, _, precision in asked[first_fp32:]} == {"fp32"}
    assert asked[first_fp32][:2] == asked[0][:2] == (1, 16)  # the default
    assert 1 <= len(asked) - first_fp32 <= 1 + BEST_FEW < first_fp32
    left_out = install(monkeypatch, even)
    search_layouts(recipe(), {"fp32": 1e11})
    assert {q["precision"] for q in left_out.asked} == {"fp32"}


def test_a_layout_that_takes_too_long_is_marked_and_the_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = install(monkeypatch, even, slow=lambda q: q["data"] == 2 and q["micro_batch_size"] == 8)
    search = search_layouts(recipe("train.precision=fp32"), RATES)
    (given_up,) = [candidate for candidate in search.trials if not candidate.is_measured]
    assert (given_up.layout.data, given_up.layout.micro_batch_size) == (2, 8)
    assert given_up.why.startswith("not measured: took longer than ")
    assert search.best.is_measured
    assert {q["data"] for q in slow.asked} == {1, 2, 4}


def test_where_every_layout_takes_too_long_that_is_said_after_few(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = install(monkeypatch, even, slow=lambda q: True)
    with pytest.raises(ResourceError, match=r"took longer than \d+ s.*smaller model"):
        search_layouts(recipe(), RATES)
    assert len(workers.asked) <= MOST_SLOW + 1


def test_a_small_micro_batch_is_taken_where_the_cache_likes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, lambda q: even(q) * (0.7 if q["micro_batch_size"] <= 4 else 1.0))
    assert search_layouts(recipe(), RATES).best.layout.micro_batch_size == 4


def test_every_other_candidate_says_why_it_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, lambda q: even(q) * (1.5 if q["precision"] == "bf16" else 1.0))
    search = search_layouts(recipe(), RATES)
    loser = next(candidate for candidate in search.trials if candidate.layout.precision == "bf16")
    assert loser.why == "49 % slower"  # 0.061 s against 0.041 s
    assert all(candidate.why for candidate in search.trials)
    assert search.considered >= len(search.trials) > 1


def test_what_the_recipe_gives_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = install(monkeypatch, even)
    asked = recipe("parallel.data=2", "train.micro_batch_size=2", "train.precision=bf16")
    search = search_layouts(asked, RATES)
    assert search.best.layout == LocalLayout(data=2, threads_per_process=2, micro_batch_size=2, precision="bf16")
    assert len(search.trials) == len(workers.asked) == 1
    assert search.best.step_seconds == pytest.approx(4 * 0.01 * 2 / 2 + 0.001 + 0.002)


def test_layers_that_were_not_timed_cost_what_a_layer_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine: some depths are timed, and the line through them is followed to all 40 layers."""
    workers = install(monkeypatch, lambda q: 0.05 + 0.02 * q["depth"])
    asked = recipe("model.num_layers=40", "train.precision=fp32", "train.micro_batch_size=16", "parallel.data=1")
    search = search_layouts(asked, {"fp32": 1e11, "bf16": 1e11})
    assert max(workers.asked[0]["depths"]) < 40
    assert search.best.step_seconds == pytest.approx(0.05 + 0.02 * 40 + 0.001)


def test_the_interval_holds_the_prediction_and_widens_with_the_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, even)
    best = search_layouts(recipe(), RATES).best
    low, high = best.interval
    assert low < best.step_seconds < high
    assert (high - low) / best.step_seconds >= 0.2


def test_micro_batches_divide_a_ranks_share(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = install(monkeypatch, even)
    search_layouts(recipe("train.global_batch_size=24"), RATES)
    assert {q["micro_batch_size"] for q in workers.asked if q["data"] == 1} <= {1, 2, 4, 8}
    assert all(24 % (q["data"] * q["micro_batch_size"]) == 0 for q in workers.asked)


def test_what_does_not_fit_is_refused_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, even)
    monkeypatch.setattr("megalith.planning.measuring.layout_trials.total_memory_bytes", lambda: 100_000_000)
    with pytest.raises(ResourceError, match="micro_batch_size"):
        search_layouts(recipe(), RATES)


@pytest.mark.parametrize(
    ("override", "error", "said"),
    [
        ("parallel.tensor=3", RecipeError, "heads"),
        ("parallel.pipeline=7", RecipeError, "cannot fill"),
        ("parallel.data=3", RecipeError, "divisor"),
    ],
)
def test_what_cannot_be_run_is_refused(
    override: str, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, even)
    with pytest.raises(error, match=said):
        search_layouts(recipe(override), RATES)
