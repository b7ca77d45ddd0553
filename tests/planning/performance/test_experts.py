"""Mixtures of experts, the context axis, and lean optimizers: against published models and formulas written out."""

from dataclasses import replace

import pytest

from megalith.arithmetic import active_parameters, flops_per_token, parameters
from megalith.errors import RecipeError, UnsupportedError
from megalith.job import Job
from megalith.planning.layout import layout
from megalith.planning.performance import constants_for, predict_step
from megalith.planning.performance.collectives import group
from megalith.planning.performance.experts import all_to_all_seconds, exchange, mlp_products
from megalith.planning.performance.memory import estimate_memory
from megalith.planning.search.result import host_bytes
from megalith.recipe import ClusterConfig, ModelConfig, load_recipe
from megalith.recipe.changes import change_of
from megalith.topology import Layout, check_layout, describe, refuse_planned_settings

LLAMA = {
    "positions": "rotary", "norm": "rmsnorm", "activation": "swiglu", "bias": False, "tie_embeddings": False,
    "sequence_length": 4096,
}  # fmt: skip


def model(**given: object) -> ModelConfig:
    return ModelConfig.model_validate({**LLAMA, **given})


MIXTRAL = model(
    num_layers=32, hidden_size=4096, num_heads=32, num_kv_heads=8, ffn_hidden_size=14336, vocab_size=32000, experts=8
)
QWEN3_30B_A3B = model(
    num_layers=48, hidden_size=2048, num_heads=32, num_kv_heads=4, head_size=128, vocab_size=151936, experts=128,
    experts_per_token=8, expert_hidden_size=768, query_key_norm="head",
)  # fmt: skip
DEEPSEEK_V3 = model(  # its latent attention is none that a recipe has: heads that share one key stand for it
    num_layers=61, hidden_size=7168, num_heads=128, num_kv_heads=1, head_size=128, ffn_hidden_size=18432,
    vocab_size=129280, experts=256, experts_per_token=8, expert_hidden_size=2048, shared_experts=1, dense_layers=3,
)  # fmt: skip


def h100(nodes: int = 1):  # type: ignore[no-untyped-def]  # a Cluster
    return describe(ClusterConfig(name="dgx-h100", nodes=nodes))


@pytest.mark.parametrize(
    ("one", "total", "active", "within"),
    [(MIXTRAL, 46.7e9, 12.9e9, 0.003), (QWEN3_30B_A3B, 30.5e9, 3.3e9, 0.02), (DEEPSEEK_V3, 671e9, 37e9, 0.10)],
    ids=["Mixtral 8x7B (2401.04088)", "Qwen3-30B-A3B (2505.09388)", "DeepSeek-V3 (2412.19437)"],
)
def test_parameters_are_the_published_ones(one: ModelConfig, total: float, active: float, within: float) -> None:
    assert parameters(one).total == pytest.approx(total, rel=within / 3 if within < 0.1 else 0.006)
    assert active_parameters(one) == pytest.approx(active, rel=within)


def test_flops_are_six_for_each_active_weight_and_attention() -> None:
    attention = 3 * 4 * 4096 * 4096 * 32
    weights = active_parameters(MIXTRAL) - 4096 * 32000 - 65 * 4096  # without the embedding's rows and the norms
    assert flops_per_token(MIXTRAL) == pytest.approx(6 * weights + attention)


def test_the_experts_products_are_the_tokens_and_experts_whatever_the_group() -> None:
    def work(expert: int) -> float:
        return sum(
            rows * columns * depth * count for rows, columns, depth, count in mlp_products(MIXTRAL, 4096, 1, expert)
        )

    router = 4096 * 4096 * 8
    assert work(1) == work(4) == 4096 * 2 * 3 * 4096 * 14336 + router


def test_an_all_to_all_inside_a_node_sends_all_but_its_own_part_and_beyond_it_by_its_own_adapter() -> None:
    cluster = h100(4)
    whole = replace(constants_for(job()), node_link=1.0, network=1.0)
    inside = exchange(cluster, group(cluster, 8, 1), 1)
    assert all_to_all_seconds(8e9, inside, whole) == pytest.approx(7e9 / 450e9, rel=1e-3)
    beyond = exchange(cluster, group(cluster, 16, 1), 1)
    assert all_to_all_seconds(16e9, beyond, whole) == pytest.approx(8e9 / 50e9, rel=1e-3)


def job(one: ModelConfig = MIXTRAL, nodes: int = 2, **given: object) -> Job:
    made = Job(one, h100(nodes), Layout(1, 1, 8 * nodes), 1, 64, zero=1)
    return replace(made, **given)  # type: ignore[arg-type]  # fields of a job


def test_sharing_experts_costs_an_all_to_all_and_saves_their_weights() -> None:
    alone, shared = job(), job(expert=8)
    assert predict_step(shared).parts["tensor communication"] > predict_step(alone).parts["tensor communication"] == 0.0
    weights = [estimate_memory(one).worst.parts["weights"] for one in (alone, shared)]
    routed = 32 * 8 * 3 * 4096 * 14336
    assert weights[0] - weights[1] == pytest.approx(2 * routed * 7 / 8, rel=0.01)  # the gathered ones, in bf16
    held = [estimate_memory(one).worst.parts["optimizer"] for one in (alone, shared)]
    assert held[0] == pytest.approx(held[1])  # over the whole data axis, either way


def test_the_context_axis_divides_tokens_and_their_activations() -> None:
    long = model(num_layers=32, hidden_size=4096, num_heads=32, ffn_hidden_size=11008, sequence_length=131072)
    whole = job(long, 1, layout=Layout(1, 1, 4, 2), global_batch_size=8)
    half = replace(whole, layout=Layout(1, 1, 2, 4))
    held = [estimate_memory(one).worst.parts["activations"] for one in (whole, half)]
    assert held[0] == pytest.approx(2 * held[1], rel=0.02)
    assert whole.accelerators == half.accelerators == 8
    computing = [predict_step(one).parts["computing"] for one in (whole, half)]
    assert computing[0] == pytest.approx(computing[1], rel=0.05)
    ring = predict_step(replace(half, context_method="ring")).parts["tensor communication"]
    assert predict_step(half).parts["tensor communication"] > ring == 0.0  # attention hides the ring here


def test_moments_in_eight_bits_and_on_the_host() -> None:
    recipe = load_recipe("llama-8b")[0]
    plain = job(recipe.model, 1, zero=0)
    state = estimate_memory(plain).worst.parts
    lean = estimate_memory(replace(plain, optimizer_state="int8")).worst.parts
    tables = 2 * 128256 * 4096
    others = parameters(recipe.model).total - tables
    assert state["optimizer"] == pytest.approx(1.02 * 8 * (others + tables), rel=0.05)
    saved = 8 - 2 * (1 + 4 / 2048)
    scale = state["optimizer"] / (8 * (others + tables))
    assert state["optimizer"] - lean["optimizer"] == pytest.approx(scale * saved * others, rel=1e-6)
    away = estimate_memory(replace(plain, offload_optimizer=True)).worst.parts
    assert away["optimizer"] == 0.0
    assert state["weights"] - away["weights"] == pytest.approx(scale * 4 * others, rel=1e-6)
    assert (
        predict_step(replace(plain, offload_optimizer=True)).parts["optimizer"]
        > 10 * predict_step(plain).parts["optimizer"]
    )
    assert host_bytes(replace(plain, offload_optimizer=True)) == pytest.approx(8 * 12 * parameters(recipe.model).total)


def test_the_search_answers_for_long_sequences_and_experts() -> None:
    shape = ["model.sequence_length=131072", "train.global_batch_size=32", "train.tokens=1000000000000", "parallel={}"]
    found = layout(load_recipe("llama-8b", ["cluster=dgx-h100", *shape])[0])
    best = found["best"]
    assert best["context"] * best["tensor"] > 1  # 131,072 tokens of a layer's activations fit no single one
    assert best["tensor"] * best["pipeline"] * best["data"] * best["context"] == 8
    fixed = [*shape, "parallel.context=4", "parallel.context_method=all_to_all"]
    keep = {"parallel.context"}
    assert layout(load_recipe("llama-8b", ["cluster=dgx-h100", *fixed])[0], keep=keep)["best"]["context"] == 4
    mixed = load_recipe("llama-8b", ["cluster=dgx-h100", "cluster.nodes=4", "parallel={}", "model.experts=8"])[0]
    answer = layout(mixed)
    assert answer["best"]["expert"] > 1  # 37B of experts fit no single one
    assert any("as many tokens" in note for note in answer["notes"])


def test_what_cannot_be_is_told() -> None:
    recipe = load_recipe("llama-8b", ["cluster=dgx-h100", "parallel={}"])[0]
    for changed, said in (
        ({"context": 3, "data": 1}, "context 3 × tensor 1 is 3 ranks"), ({"expert": 2, "data": 8}, "has none"),
        ({"context": 4, "data": 4}, "context 4 × tensor 1 is 16 ranks"),
    ):  # fmt: skip
        parallel = recipe.parallel.model_copy(update=changed)
        axes = Layout(1, 1, changed["data"], changed.get("context", 1))
        with pytest.raises(RecipeError, match=said):
            check_layout(h100(), axes, recipe.model, parallel, recipe.train)
    with pytest.raises(RecipeError, match="experts is missing"):
        load_recipe("llama-8b", ["model.shared_experts=1"])
    with pytest.raises(RecipeError, match="experts_per_token is 4"):
        load_recipe("llama-8b", ["model.experts=2", "model.experts_per_token=4"])


@pytest.mark.parametrize(
    "setting",
    ["model.experts=8", "parallel.expert=2", "parallel.offload_optimizer=true",
     "train.optimizer_state=int8", "parallel.tensor_overlap=true", "train.fp8=block", "train.cuda_graphs=true"],
)  # fmt: skip
def test_training_refuses_what_is_only_planned_with_the_mend(setting: str) -> None:
    recipe = load_recipe("llama-8b", [setting])[0]
    with pytest.raises(UnsupportedError, match="planned, not yet trained") as caught:
        refuse_planned_settings(recipe.model, recipe.parallel, recipe.train)
    assert caught.value.mend
    key = setting.partition("=")[0]
    assert change_of(key).key == key  # it has a row
    assert key.rpartition(".")[2] not in load_recipe("llama-8b")[0].model_dump()[key.partition(".")[0]]
