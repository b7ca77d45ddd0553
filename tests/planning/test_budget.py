"""Budgets: each law by itself, and GPU-hours at an MFU that depends on the model."""

import pytest

from megalith.arithmetic import flops_per_token, parameters
from megalith.errors import RecipeError
from megalith.laws import compute_optimal
from megalith.planning.budget import (
    Machines,
    Reached,
    batch_near,
    budget,
    budget_of,
    budget_on_cluster,
    in_flops,
    shape_near,
    sized,
    with_flops,
)
from megalith.planning.shapes import choose_shape
from megalith.recipe import ModelConfig, load_recipe
from megalith.recipe.machine import BudgetConfig
from megalith.topology import Cluster

REFIT = "chinchilla-refit"


def rows(found: dict) -> dict[str, dict]:  # type: ignore[type-arg]  # as JSON has it
    return {row["law"]: row for row in found["laws"]}


def test_each_law_says_what_it_is_sure_of_and_what_not() -> None:
    laws = rows(budget(5.76e23))
    # 4,000 bootstraps of the refit's 240 points give 51.7B to 112B parameters at this budget
    low, high = laws[REFIT]["intervals"]["parameters"]
    assert low == pytest.approx(51.7e9, rel=0.1) and high == pytest.approx(112e9, rel=0.1)
    # tokens are what the FLOPs leave
    low_tokens, high_tokens = laws[REFIT]["intervals"]["tokens"]
    assert low_tokens * high * 6 == pytest.approx(5.76e23)
    assert high_tokens * low * 6 == pytest.approx(5.76e23)
    # 600 bootstraps: 1.951 to 2.000
    assert laws[REFIT]["intervals"]["loss"] == pytest.approx([1.951, 2.000], abs=0.006)
    assert laws["kaplan"]["intervals"] == {"parameters": None, "tokens": None, "loss": None}
    assert laws["kaplan"]["intervals_from"] == "no interval is published"
    assert laws["chinchilla-1"]["intervals"]["loss"] is None


def test_the_losss_interval_widens_away_from_the_runs_that_were_fitted() -> None:
    def width(flops: float) -> float:
        low, high = rows(budget(flops))[REFIT]["intervals"]["loss"]
        return high - low

    assert width(1e20) < width(1e22) < width(1e24) < width(1e26)


def flat(mfu: float):  # type: ignore[no-untyped-def]  # a Reach for any cluster
    return lambda cluster: lambda model, batch: Reached(mfu, (0.9 * mfu, 1.1 * mfu), {}, {})


def test_gpu_hours_become_flops_at_the_mfu() -> None:
    found = budget_on_cluster(1e6, "selene", 64, reach=flat(0.5))
    row = rows(found)[REFIT]
    spent = 1e6 * 3600 * 312e12 * 0.5
    assert row["model_flops"] == pytest.approx(spent)
    model = shape_near(row["parameters"])
    flops = row["flops"]
    # the tokens are those that the hours are enough for, at the model's own FLOPs a token
    assert flops / 6 / parameters(model).total == pytest.approx(spent / flops_per_token(model))
    assert 0.85 * spent < flops < spent
    assert row["parameters"] == pytest.approx(compute_optimal(flops, REFIT).parameters)
    assert found["days"] == pytest.approx(1e6 / 512 / 24)
    # the MFU's interval widens the law's
    assert row["interval"][0] < compute_optimal(flops, REFIT).interval[0]  # type: ignore[index]  # the refit has one
    assert row["interval"][1] > compute_optimal(flops, REFIT).interval[1]  # type: ignore[index]  # the refit has one


def test_each_law_goes_round_until_its_model_is_the_one_whose_mfu_was_asked() -> None:
    """A cluster on which large models go slowly: at the fixed point, the FLOPs are those at the model's own MFU."""

    def mfu(model: ModelConfig) -> float:
        return 0.6 / (1 + parameters(model).total / 1e11)

    asked = {}

    def reach(cluster: Cluster):  # type: ignore[no-untyped-def]  # a Reach
        def reached(model: ModelConfig, batch: int) -> Reached:
            asked[model.num_layers] = model
            return Reached(mfu(model), (mfu(model), mfu(model)), {"num_layers": model.layers}, {})

        return reached

    found = budget_on_cluster(3e6, "selene", 280, reach=reach)
    for row in found["laws"]:
        model = asked[row["shape"]["num_layers"]]
        assert row["model_flops"] == pytest.approx(3e6 * 3600 * 312e12 * mfu(model))
        again = shape_near(compute_optimal(row["flops"], row["law"]).parameters)
        assert abs(again.layers - model.layers) <= 4  # the next shape of the family at most
    assert len({row["mfu"] for row in found["laws"]}) > 1


def test_without_nodes_as_many_are_taken_as_end_in_about_a_month() -> None:
    found = budget_on_cluster(1e6, "dgx-h100", reach=flat(0.4))
    assert found["nodes_chosen"]
    assert 20 < found["days"] < 45
    assert budget_on_cluster(1e9, "jeanzay", reach=flat(0.4))["nodes"] == 32  # it has 52


@pytest.mark.parametrize("count", [1e8, 7e9, 70e9, 530e9])
def test_a_shape_is_near_and_can_be_split_over_a_node(count: float) -> None:
    model = shape_near(count)
    assert parameters(model).total == pytest.approx(count, rel=0.25)
    assert model.heads % 8 == model.ffn_hidden % 8 == 0
    ModelConfig.model_validate(model.model_dump())


@pytest.mark.parametrize("accelerators", [8, 64, 512, 2240])
def test_a_batch_is_shared_by_any_layout_and_about_what_was_found_best(accelerators: int) -> None:
    batch = batch_near(1e23, accelerators)
    assert batch * 2048 == pytest.approx(0.292 * 1e23**0.3271, rel=0.35)
    assert batch % (accelerators // 8) == 0


@pytest.mark.parametrize(("hours", "cluster", "said"), [(0.0, "selene", "nothing"), (1e5, "local", "--flops"),
                                                        (1e5, "nowhere", "selene")])  # fmt: skip
def test_what_cannot_be_is_refused(hours: float, cluster: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        budget_on_cluster(hours, cluster, reach=flat(0.4))


def machines(rate: float, *, slow_at: float = 1e99) -> Machines:
    """Machines on which a model reaches `rate` FLOPs per second, and less the larger it is."""
    return Machines(2 * rate, lambda model: rate / (1 + parameters(model).total / slow_at))


def test_hours_of_a_recipe_become_the_flops_that_its_own_model_reaches() -> None:
    asked = load_recipe("quickstart", ["budget.hours=1"])[0]
    spent = in_flops(asked, machines(1e12, slow_at=1e7)).budget
    assert spent.hours is None
    chosen = choose_shape(with_flops(asked, spent.flops or 0.0))[0].model
    assert spent.flops == pytest.approx(3600 * machines(1e12, slow_at=1e7).reach(chosen))
    assert in_flops(load_recipe("quickstart", ["budget.flops=1e13"])[0]).budget.flops == 1e13
    shape = ("model.num_layers=2", "model.hidden_size=64", "model.num_heads=2")
    assert in_flops(load_recipe("quickstart", ["budget.hours=1", *shape])[0], machines(1e12)).budget.flops == 3.6e15


def test_hours_of_a_recipe_on_a_cluster_are_gpu_hours_of_all_its_gpus() -> None:
    overrides = ["cluster.name=dgx-a100", "cluster.nodes=2", "train.global_batch_size=64", "budget.hours=100"]
    asked = load_recipe("quickstart", overrides)[0]
    found = budget_of(asked)
    assert (found["gpu_hours"], found["accelerators"], found["nodes_chosen"]) == (1600, 16, False)
    flops = in_flops(asked).budget.flops
    assert flops is not None
    assert 0.01 < flops / (100 * 3600 * 16 * 312e12) < 0.6
    tokens = sized(asked).train.tokens
    assert tokens is not None
    assert tokens > 0


def test_a_recipes_flops_and_a_recipe_without_a_budget() -> None:
    assert budget_of(load_recipe("quickstart", ["budget.flops=1e20"])[0])["flops"] == 1e20
    with pytest.raises(RecipeError, match=r"no budget.*budget\.hours"):
        budget_of(load_recipe("gpt2-124m")[0])


def test_the_refit_is_the_law_where_none_is_named() -> None:
    """Chinchilla's own size at Gopher's budget (2203.15556): 67B to 72B, where the paper's approach 3 says 40B."""
    assert BudgetConfig().law == REFIT
    assert compute_optimal(5.76e23, BudgetConfig().law).parameters == pytest.approx(72e9, rel=0.05)
