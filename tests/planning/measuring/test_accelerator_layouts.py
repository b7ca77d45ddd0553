"""Layout, precision and processes on simulated accelerators; the machine that runs this has none."""

from pathlib import Path

import pytest

from megalith import machine
from megalith.errors import RecipeError, ResourceError
from megalith.job import Job
from megalith.machine import Accelerators, accelerators
from megalith.planning.layout import layout
from megalith.planning.measuring.accelerator_layouts import node_here
from megalith.planning.measuring.local_layouts import check_layout, search_layouts
from megalith.planning.performance.memory import estimate_memory
from megalith.planning.plan import check, plan
from megalith.recipe import ClusterConfig, Recipe, load_recipe
from megalith.topology import describe, known_clusters, node_of
from tests.accelerators import H100, TURING, UNKNOWN, simulate

SMALL = ("model.num_layers=4", "model.hidden_size=128", "model.num_heads=4", "train.tokens=40960")


def recipe(*overrides: str, name: str = "quickstart") -> Recipe:
    sizes = SMALL if name == "quickstart" else ()
    return load_recipe(name, [*sizes, *overrides])[0]


def llama(*overrides: str) -> Recipe:
    return recipe("train.tokens=1e9", "train.warmup_tokens=0", *overrides, name="llama-8b")


def described(card: dict[str, object], count: int = 8) -> str | None:
    found = Accelerators(str(card["name"]), count, int(str(card["memory_bytes"])), True)
    node = node_of(found, [describe(ClusterConfig(name=name)) for name in known_clusters() if name != "local"])
    return node.accelerator if node else None


@pytest.mark.parametrize(
    ("name", "gib", "datasheet"),
    [
        ("NVIDIA H100 80GB HBM3", 79.1, "H100-SXM-80GB"),
        ("NVIDIA A100-SXM4-80GB", 79.15, "A100-SXM-80GB"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100-SXM-40GB"),
        ("NVIDIA H200", 139.8, "H200-SXM-141GB"),
        ("NVIDIA B200", 178.4, "B200-SXM-180GB"),
        ("Tesla V100-SXM2-32GB", 31.7, "V100-SXM2-32GB"),
        ("AMD Instinct MI300X", 191.5, "MI300X-192GB"),
        ("NVIDIA H100 PCIe", 79.1, None),  # a slower card, without NVLink between eight
        ("NVIDIA H200 NVL", 139.8, None),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", 39.4, None),  # a part of one
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 39.4, None),
        ("Zeta Cardinal 9", 24, None),
    ],
)
def test_a_card_is_known_by_its_name_and_its_memory(name: str, gib: float, datasheet: str | None) -> None:
    assert described({"name": name, "memory_bytes": int(gib * 2**30)}) == datasheet


def test_a_processor_alone_has_no_accelerators() -> None:
    assert accelerators() is None
    assert node_here(recipe()) is None


def test_mixed_cards_are_planned_by_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cards", lambda: [dict(H100), dict(TURING)])
    found = accelerators()
    assert found is not None
    assert (found.count, found.memory_bytes, found.bf16) == (2, 11 * 2**30, False)
    assert found.name == "NVIDIA GeForce RTX 2080 Ti and NVIDIA H100 80GB HBM3"


def test_a_large_model_is_spread_over_all_accelerators_in_bf16_and_fits_each(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = simulate(monkeypatch, H100, 8)
    search = search_layouts(llama(), {})
    best = search.best.layout
    assert best.processes == 8
    assert best.precision == "bf16"
    assert all(question["precision"] == "bf16" for question in workers.asked)
    for trial in search.trials:  # 16 bytes a parameter do not fit in one card of 80 GB
        assert trial.layout.chosen["zero"] or trial.layout.tensor * trial.layout.pipeline > 1
        assert trial.memory_bytes / 8 < H100["memory_bytes"]  # type: ignore[operator]
    assert search.considered > 100


def test_the_memory_of_a_plan_is_what_the_model_of_it_allocates_on_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch, H100, 8)
    asked = llama("parallel={tensor: 2, pipeline: 2, data: 2, zero: 1}", "train.micro_batch_size=1")
    trial = search_layouts(asked, {}).best
    node = node_here(asked)
    assert node is not None
    chosen = asked.parallel.model_copy(update=trial.layout.chosen)
    assert (chosen.tensor, chosen.pipeline, chosen.data, chosen.zero) == (2, 2, 2, 1)
    stages = estimate_memory(Job.of(asked.model_copy(update={"parallel": chosen}), node)).stages
    assert trial.memory_bytes == pytest.approx(sum(4 * stage.allocated_bytes for stage in stages), rel=1e-6)


def test_what_is_measured_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model so small that one card is as fast as eight: measured, not predicted."""
    slow_together = simulate(monkeypatch, H100, 8, lambda parallel, _: 1.0 if (parallel.data or 1) > 1 else 1e-4)
    best = search_layouts(recipe(), {}).best
    assert best.layout.processes == 1
    spread = [question["parallel"] for question in slow_together.asked]
    assert {each["tensor"] * each["pipeline"] * each["data"] for each in spread} == {1, 8}
    simulate(monkeypatch, H100, 8, lambda parallel, _: 1e-4 if (parallel.data or 1) > 1 else 1.0)
    assert search_layouts(recipe(), {}).best.layout.processes == 8


def test_a_layout_that_runs_out_of_memory_is_told_and_the_next_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    first: list[object] = []

    def cost(parallel: object, question: object) -> float | None:
        first.append(parallel)
        return None if parallel == first[0] else 0.01

    simulate(monkeypatch, H100, 8, cost)
    search = search_layouts(recipe(), {})
    assert search.best.is_measured
    assert [trial.why for trial in search.trials if not trial.is_measured] == ["not measured: CUDA out of memory"]
    simulate(monkeypatch, H100, 8, lambda parallel, question: None)
    with pytest.raises(ResourceError, match="no layout could be run on this machine's H100-SXM-80GB: CUDA out"):
        search_layouts(recipe(), {})


def test_a_card_without_bf16_trains_in_fp16_and_the_recipe_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch, TURING, 2)
    assert search_layouts(recipe(), {}).best.layout.precision == "fp16"
    assert search_layouts(recipe("train.precision=fp32"), {}).best.layout.precision == "fp32"


def test_an_unknown_card_holds_a_model_by_sharding_it_before_it_computes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """1.5B parameters take 24 GB with their optimizer: more than a card of 24 GiB has, less than four have."""
    simulate(monkeypatch, UNKNOWN, 4)
    sizes = ("model.num_layers=48", "model.hidden_size=1600", "model.num_heads=25", "model.sequence_length=1024")
    asked = recipe(*sizes, "train.micro_batch_size=4", "train.global_batch_size=64")
    first = search_layouts(asked, {}).trials
    alone = [trial.layout for trial in first if trial.layout.data == 4]
    assert alone
    assert alone[0].chosen["zero"] > 0
    assert node_here(asked).facts is None  # type: ignore[union-attr]


def test_a_model_for_which_the_cards_are_too_small_is_refused_with_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch, TURING, 1)
    with pytest.raises(ResourceError, match="million parameters or fewer"):
        check(llama())
    with pytest.raises(ResourceError, match=r"no layout fits: .* of each NVIDIA GeForce RTX 2080 Ti's 11\.8 GB"):
        search_layouts(llama(), {})


def test_one_process_trains_on_each_accelerator_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch, H100, 2)
    with pytest.raises(RecipeError, match=r"is 4 processes, and this machine has 2 × H100"):
        check_layout(recipe("parallel.data=4"))
    assert check_layout(recipe("parallel={tensor: 1, pipeline: 1, data: 1}")) == [1]
    assert max(check_layout(recipe())) == 2


def test_a_plan_on_accelerators_decides_all_and_says_what_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    simulate(monkeypatch, H100, 8)
    artifact = plan(llama(), tmp_path / "plan", None)
    decided = Recipe.model_validate_json((artifact.path / "recipe.json").read_text())
    parallel = decided.parallel
    assert (parallel.tensor or 0) * (parallel.pipeline or 0) * (parallel.data or 0) == 8
    assert decided.train.precision == "bf16"
    layout_of_plan = artifact.facts["layout"]
    assert layout_of_plan["zero"] == parallel.zero
    assert layout_of_plan["recompute"] == parallel.recompute
    told = artifact.facts["machine"]
    assert told["accelerators"] == {
        "name": H100["name"], "count": 8, "memory_bytes": H100["memory_bytes"], "datasheet": "H100-SXM-80GB",
    }  # fmt: skip
    assert told["peak_flops_per_second"] == pytest.approx(8 * 989.5e12)


def test_a_budget_in_hours_is_spent_at_the_accelerators_rate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    workers = simulate(monkeypatch, UNKNOWN, 1, lambda parallel, question: 0.02)
    asked = load_recipe("quickstart", ["budget.hours=0.01"])[0]
    facts = plan(asked, tmp_path / "plan", None).facts
    assert facts["steps"] == int(36 / facts["step_seconds"])
    assert {"ask": "product", "precision": "bf16"} in workers.asked


def test_training_of_years_on_accelerators_is_refused_by_their_datasheet(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch, H100, 8)
    with pytest.raises(ResourceError, match=r"at least [\d.]+ (years|days)"):
        check(recipe("train.tokens=15e12", "train.warmup_tokens=0", name="llama-8b"))
    check(llama("train.tokens=1e8"))


def test_a_recipe_for_one_node_of_what_this_machine_is_runs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch, H100, 8)
    here = node_here(recipe("cluster={name: dgx-h100}"))
    assert here is not None
    assert here.name == "dgx-h100"
    assert node_here(recipe("cluster={name: dgx-h100, nodes: 2}")) is None
    assert node_here(recipe("cluster={name: dgx-a100}")) is None


def test_plan_layout_answers_for_the_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(monkeypatch, H100, 8)
    found = layout(llama())
    assert found["best"]["tensor"] * found["best"]["pipeline"] * found["best"]["data"] == 8
    assert found["best"]["precision"] == "bf16"
