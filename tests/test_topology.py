"""Every rank has one place, the groups lie as near as the paper says, and what cannot be is refused with the mend."""

import itertools

import numpy as np
import pytest

from megalith.batches import ramp_batches
from megalith.errors import RecipeError, UnsupportedError
from megalith.recipe import ClusterConfig, ModelConfig, ParallelConfig, TrainConfig, load_recipe, shipped_recipes
from megalith.topology import (
    AXES,
    LOCAL,
    Cluster,
    Layout,
    check_layout,
    describe,
    key_heads,
    key_heads_computed,
    key_heads_on_a_rank,
    known_clusters,
    layout_of,
    local_cluster,
    refuse_planned_settings,
    trains_context,
)

MT_NLG = Layout(tensor=8, pipeline=35, data=12)
SELENE = describe(ClusterConfig(name="selene", nodes=420))


def cluster(name: str, nodes: int, **given: int) -> Cluster:
    return describe(ClusterConfig(name=name, nodes=nodes, **given))


@pytest.mark.parametrize("layout", [Layout(), Layout(2, 3, 5), Layout(5, 3, 2), Layout(2, 3, 2, 4), MT_NLG], ids=str)
def test_the_map_is_the_grid_one_can_see(layout: Layout) -> None:
    """numpy's rows and columns are the oracle: pipeline × data × context × tensor, counted through."""
    grid = np.arange(layout.world).reshape(layout.pipeline, layout.data, layout.context, layout.tensor)
    for place in np.ndindex(grid.shape):
        assert layout.rank(*place) == grid[place]
        assert layout.coordinates(int(grid[place])) == place
    for number, axis in enumerate(AXES):
        lines = np.moveaxis(grid, number, -1).reshape(-1, grid.shape[number])
        assert layout.groups(axis) == tuple(tuple(line) for line in lines.tolist())
        for line in lines.tolist():
            assert all(layout.group(axis, rank) == tuple(line) for rank in line)


def test_mt_nlg_has_each_of_its_3360_ranks_once_on_every_axis() -> None:
    assert MT_NLG.world == SELENE.accelerators == 3360
    assert MT_NLG.replica == 280
    for axis in AXES:
        assert sorted(rank for group in MT_NLG.groups(axis) for rank in group) == list(range(3360))


def test_mt_nlg_tensor_groups_lie_inside_a_node() -> None:
    nodes = [{SELENE.node(rank) for rank in group} for group in MT_NLG.groups("tensor")]
    assert all(len(group) == 1 for group in nodes)
    assert {SELENE.tier_of(group).name for group in MT_NLG.groups("tensor")} == {"nvlink"}


def test_mt_nlg_data_groups_lie_as_near_as_they_can() -> None:
    """With tensor groups that fill nodes, twelve replicas need twelve nodes: neighbours are the nearest twelve."""
    for group in MT_NLG.groups("data"):
        nodes = [SELENE.node(rank) for rank in group]
        assert nodes == list(range(nodes[0], nodes[0] + 12))


def test_mt_nlg_stages_are_farthest_apart() -> None:
    for pipeline in MT_NLG.groups("pipeline"):
        nodes = [SELENE.node(rank) for rank in pipeline]
        assert {after - before for before, after in itertools.pairwise(nodes)} == {12}
    assert MT_NLG.ends(8) == (8, 34 * 96 + 8) == MT_NLG.ends(96 + 8)


def test_the_layout_of_a_recipe_is_whole_or_refused_with_the_keys_to_give() -> None:
    assert layout_of(ParallelConfig(tensor=8, pipeline=35, data=12)) == MT_NLG
    with pytest.raises(RecipeError, match=r"\(pipeline, data\).*parallel\.pipeline=N parallel\.data=N"):
        layout_of(ParallelConfig(tensor=8))


def test_tiers_are_told_by_node_and_unit() -> None:
    assert SELENE.tier(0, 7).name == "nvlink"
    assert SELENE.tier(7, 8).name == "infiniband"
    assert SELENE.tier(0, 20 * 8 - 1).name == "infiniband"
    assert SELENE.tier(20 * 8 - 1, 20 * 8).name == "infiniband-core"
    assert SELENE.tier_of([3]).name == "nvlink"
    assert SELENE.tier_of([0, 8, 3359]).name == "infiniband-core"
    assert [SELENE.span(tier) for tier in SELENE.tiers] == [8, 160, 3360]


def test_a_cluster_has_the_tiers_that_its_nodes_need() -> None:
    assert [tier.name for tier in cluster("selene", 1).tiers] == ["nvlink"]
    assert [tier.name for tier in cluster("selene", 20).tiers] == ["nvlink", "infiniband"]
    assert cluster("selene", 20).tier(0, 159).name == "infiniband"


def test_ranks_of_one_ring_on_a_node_lend_each_other_their_links() -> None:
    one_each, all_of_four = [0, 8, 16, 24], list(range(32))
    four = cluster("dgx-a100", 4)
    assert four.link(one_each).bytes_per_second == 25e9
    assert four.link([0, 1, 8, 9]).bytes_per_second == 50e9
    assert four.link(all_of_four).bytes_per_second == 200e9
    assert four.link(range(8)).bytes_per_second == 300e9
    assert cluster("jeanzay", 4).link(all_of_four).bytes_per_second == 50e9  # four 100 Gb/s links a node
    seconds = four.link(one_each).seconds(25e9, hops=6)
    assert seconds == pytest.approx(1 + 6 * 9.6e-6)


def test_every_shipped_recipe_names_a_cluster_that_is_described() -> None:
    for name in shipped_recipes():
        assert load_recipe(name)[0].cluster.name in known_clusters()


@pytest.mark.parametrize("name", [name for name in known_clusters() if name != LOCAL])
def test_links_get_slower_with_the_distance(name: str) -> None:
    found = cluster(name, 52)
    rates = [tier.bytes_per_second for tier in found.tiers]
    delays = [tier.latency_seconds for tier in found.tiers]
    assert rates == sorted(rates, reverse=True)
    assert delays == sorted(delays)
    assert found.tiers[0].nodes == 1


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"name": "selen"}, "cluster 'selen' is not known. Set one of local, selene"),
        ({"name": "selene", "nodes": 561}, "560 nodes, not 561"),
        ({"name": "dgx-2h", "accelerators_per_node": 17}, "16 accelerators, not 17"),
    ],
)
def test_machines_that_are_not_there_are_refused(config: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        describe(ClusterConfig.model_validate(config))


def test_this_machine_takes_any_number_of_ranks_and_says_when_they_share() -> None:
    machine = local_cluster("cpu", 2, 8e9)
    here = describe(ClusterConfig(), machine)
    assert here.node(7) == 0
    assert here.link([0, 7]).seconds(1e9, 2) is None
    notes = check_layout(here, Layout(data=8), model(), ParallelConfig(), TrainConfig(global_batch_size=8))
    assert notes == ["8 ranks share 2 accelerators of this machine."]
    assert describe(ClusterConfig(accelerators_per_node=4), machine).accelerators == 4


def model(**options: object) -> ModelConfig:
    shape = {"num_layers": 8, "hidden_size": 96, "num_heads": 12, "num_kv_heads": 4, "sequence_length": 20}
    return ModelConfig.model_validate({**shape, **options})


def checked(
    layout: Layout,
    nodes: int,
    model_: ModelConfig | None = None,
    train: dict[str, object] | None = None,
    **axes: object,
) -> list[str]:
    config = TrainConfig.model_validate({"global_batch_size": 64, "micro_batch_size": 1, **(train or {})})
    return check_layout(
        cluster("dgx-a100", nodes), layout, model_ or model(), ParallelConfig.model_validate(axes), config
    )


def test_a_layout_that_fits_has_nothing_to_note() -> None:
    assert checked(Layout(tensor=4, pipeline=2, data=2), 2) == []


RAMP = {"start": 8, "increment": 8, "tokens": 1000}


@pytest.mark.parametrize(
    ("layout", "nodes", "given", "said"),
    [
        (Layout(4, 2, 2), 3, {}, r"is 16 ranks, and 3 nodes of 8 are 24\. Set parallel.data=3 or cluster.nodes=2\."),
        (Layout(4, 3, 1), 2, {}, r"is 12 ranks, .* Set a cluster.nodes that is a multiple of 3, and a parallel.data"),
        (Layout(8, 1, 1), 1, {}, r"num_heads is 12: 12 heads .* over tensor=8\. Try 1, 2, 3, 4, 6 or 12\."),
        (Layout(4, 2, 1), 1, {"model_": model(ffn_hidden_size=130)}, r"130 columns of the MLP .* Try 1 or 2\."),
        (Layout(4, 16, 1), 8, {}, r"8 layers cannot fill 16 stages .* Set parallel.pipeline=10 or less"),
        (Layout(1, 8, 1), 1, {"virtual_stages": 2}, r"8 layers cannot fill 16 stages .* Set parallel.pipeline=5 or"),
        (Layout(1, 1, 24), 3, {}, r"train.global_batch_size: a batch of 64 .* = 24 × 1\. Set parallel.data=16, or"),
        (Layout(1, 8, 8), 8, {"schedule": "interleaved-1f1b", "train": {"global_batch_size": 96}},
         r"multiples of pipeline=8, and a batch of 96 gives 12\. Set 1f1b, or a batch that is a multiple of 64"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_mend(
    layout: Layout, nodes: int, given: dict[str, object], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        checked(layout, nodes, **given)  # type: ignore[arg-type]


def test_ranks_may_share_heads_of_keys_and_values() -> None:
    assert checked(Layout(tensor=2, pipeline=4, data=1), 1, model(num_kv_heads=3)) == []  # unevenly
    assert checked(Layout(tensor=4, pipeline=2, data=1), 1, model(num_kv_heads=1)) == []


@pytest.mark.parametrize(
    ("heads", "kv_heads"), [(12, 3), (12, 4), (14, 2), (9, 3), (12, 1), (16, 16), (24, 6), (30, 10)]
)
def test_every_query_finds_its_head_of_keys_on_its_rank(heads: int, kv_heads: int) -> None:
    shape = model(num_heads=heads, num_kv_heads=kv_heads, head_size=8)
    for ranks in (size for size in range(1, heads + 1) if heads % size == 0):
        own = heads // ranks
        taken, computed = [], []
        for rank in range(ranks):
            split = tuple(range(rank * kv_heads // ranks, (rank + 1) * kv_heads // ranks))
            found = key_heads(shape, ranks, rank) or split
            per_head = own // len(found)  # as the attention repeats them
            reached = [found[query // per_head] for query in range(own)]
            assert reached == [(rank * own + query) * kv_heads // heads for query in range(own)]
            taken.append(len(found))
            computed.append(len(set(found)))
        assert set(taken) == {key_heads_on_a_rank(shape, ranks)}
        assert max(computed) == key_heads_computed(shape, ranks)


def test_no_mend_asks_for_nodes_that_are_not_there() -> None:
    """24 replicas of 280 are 840 nodes of Selene's 560."""
    recipe = load_recipe("mt-nlg-530b")[0]
    with pytest.raises(RecipeError, match=r"are 3360\. Set parallel\.data=12\.$"):
        check_layout(SELENE, Layout(8, 35, 24), recipe.model, recipe.parallel, recipe.train)


def test_a_sequence_is_split_evenly_or_not_at_all() -> None:
    uneven = model(sequence_length=22)
    assert checked(Layout(4, 2, 1), 1, uneven) == []
    with pytest.raises(RecipeError, match=r"22 tokens cannot be split over tensor=4\..*multiple of 4"):
        checked(Layout(4, 2, 1), 1, uneven, sequence_parallel=True)


def test_what_is_slow_is_noted_and_not_refused() -> None:
    wide = model(num_heads=16, num_kv_heads=16)
    (note,) = checked(Layout(16, 1, 1), 2, wide)
    assert "1 of 1 tensor groups cross from node to node" in note
    (note,) = checked(Layout(1, 8, 16), 16, train={"global_batch_size": 64})
    assert "4 micro-batches do not fill a pipeline of 8" in note
    assert "64%" in note  # 7 / (4 + 7)


def test_batches_of_a_ramp_that_do_not_come_out_even_are_noted() -> None:
    (note,) = checked(Layout(1, 1, 16), 2, train={"batch_ramp": RAMP})
    assert "4 batches of the ramp are no multiples of data × micro-batch = 16" in note  # 8, 24, 40, 56
    assert "up to 50%" in note  # 8 of 16


def test_the_batches_of_a_ramp_are_those_before_the_full_one() -> None:
    assert list(ramp_batches(TrainConfig.model_validate({"global_batch_size": 32, "batch_ramp": RAMP}))) == [8, 16, 24]
    assert list(ramp_batches(TrainConfig())) == []


@pytest.mark.parametrize(
    ("settings", "said", "mend"),
    [
        (["parallel.context=8"], "32 heads cannot be dealt to tensor × context = 8 × 8", "Try 1, 2 or 4"),
        (["parallel.context=2", "model.sequence_length=8191"], "8191 tokens cannot be split into 2", "multiple of 2"),
        (["parallel.context=2", "model.sequence_length=8200", "parallel.sequence_parallel=true"],
         "cannot be split over tensor=8 × context=2", "multiple of 16"),
    ],
)  # fmt: skip
def test_a_context_that_cannot_be_is_refused_with_what_can(settings: list[str], said: str, mend: str) -> None:
    recipe, _ = load_recipe("llama-8b", ["parallel={tensor: 8, pipeline: 1, data: 1}", *settings])
    layout = layout_of(recipe.parallel)
    with pytest.raises(RecipeError, match=said) as caught:
        check_layout(cluster("dgx-h100", layout.context), layout, recipe.model, recipe.parallel, recipe.train)
    assert mend in str(caught.value.mend)


@pytest.mark.parametrize(
    ("recipe", "settings", "where"),
    [
        ("llama-8b", ["parallel.context_method=ring"], "parallel.context_method"),
        ("llama-8b", ["model.dropout=0.1"], "parallel.context"),
        ("bert-336m", [], "parallel.context"),
    ],
)
def test_shared_samples_that_cannot_be_trained_are_refused(recipe: str, settings: list[str], where: str) -> None:
    loaded, _ = load_recipe(recipe, ["parallel.context=2", *settings])
    assert not trains_context(loaded.model, loaded.parallel)
    with pytest.raises(UnsupportedError, match="planned, not yet trained") as caught:
        refuse_planned_settings(loaded.model, loaded.parallel, loaded.train)
    assert caught.value.where == where
    assert caught.value.mend


def test_ranks_that_share_samples_are_neighbours_and_shard_together() -> None:
    layout = Layout(tensor=2, pipeline=2, data=2, context=2)
    assert layout.group("context", 8) == (8, 10)
    assert layout.gradient_group(9) == (9, 11, 13, 15)
    assert layout.shard_groups(9, 2) == ((9, 11), (13, 15))
    assert layout.replica_groups(9, 2) == ((9, 13), (11, 15))
    for rank in range(layout.world):
        assert rank in layout.gradient_group(rank)
        assert set(layout.group("context", rank)) | set(layout.group("data", rank)) <= set(layout.gradient_group(rank))
