"""`plan ranks` says where every rank lies and what it sends, or which keys are wanting."""

import json

import pytest
from typer.testing import CliRunner

from megalith.cli import app
from megalith.errors import RecipeError
from megalith.planning.rank_map import fold_nodes, fold_traffic, ranks, span
from megalith.recipe import load_recipe

runner = CliRunner()


def test_mt_nlg_is_told_rank_by_rank() -> None:
    result = runner.invoke(app, ["plan", "ranks", "mt-nlg-530b", "--json"])
    found = json.loads(result.stdout)
    assert found["world"] == 3360
    assert [row["rank"] for row in found["ranks"]] == list(range(3360))
    assert found["ranks"][96] == {
        "rank": 96,
        "node": 12,
        "pipeline": 1,
        "data": 0,
        "context": 0,
        "tensor": 0,
    }
    assert all(row["node"] == row["rank"] // 8 for row in found["ranks"])
    assert {tier["name"]: tier["axes"] for tier in found["tiers"]} == {
        "nvlink": ["tensor"],
        "infiniband": ["data"],
        "infiniband-core": ["data", "ends", "pipeline"],
    }


def test_a_data_group_that_crosses_a_unit_needs_the_farther_links() -> None:
    """Units are of 20 nodes and stages of 12: the second stage lies on nodes 12 to 23, the fourth on 36 to 47."""
    rows = ranks(load_recipe("mt-nlg-530b")[0])["traffic"]
    tiers = [row["tier"] for row in rows if row["axis"] == "data"]
    crosses = [stage * 12 // 20 != (stage * 12 + 11) // 20 for stage in range(35)]
    assert tiers == ["infiniband-core" if across else "infiniband" for across in crosses]


def test_the_seconds_of_a_row_are_those_of_its_links() -> None:
    rows = ranks(load_recipe("mt-nlg-530b")[0])["traffic"]
    layers = next(row for row in rows if row["axis"] == "tensor" and row["what"] == "layers")
    assert layers["seconds"] == pytest.approx(201_326_592_000 * 1.75 / 300e9 + 2400 * 14 * 3.4e-6)


def sharded(nodes: int, shard: int) -> dict[str, dict[str, object]]:
    """The traffic of GPT-2 under ZeRO-2 over all of `nodes` nodes of eight, by collective."""
    overrides = ["cluster.name=dgx-a100", f"cluster.nodes={nodes}", "parallel.tensor=1", "parallel.pipeline=1",
                 f"parallel.data={8 * nodes}", "parallel.zero=2", f"parallel.zero_shard={shard}",
                 f"train.global_batch_size={64 * nodes}"]  # fmt: skip
    return {row["collective"]: row for row in ranks(load_recipe("gpt2-355m", overrides)[0])["traffic"]}


def test_zero_shards_over_neighbours_and_repeats_over_the_rest() -> None:
    """Four nodes of eight, ZeRO over eight ranks: shards stay inside a node, copies are summed from node to node."""
    rows = sharded(nodes=4, shard=8)
    assert rows["reduce_scatter"]["tier"] == rows["all_gather"]["tier"] == "nvlink"
    assert rows["all_reduce"]["tier"] == "infiniband"
    assert rows["all_reduce"]["bytes_per_second"] == 25e9
    assert (rows["reduce_scatter"]["group_size"], rows["all_reduce"]["group_size"]) == (8, 4)


def test_the_slowest_group_of_a_stage_counts() -> None:
    """Ranks 0 to 5 are on one node, ranks 6 to 11 on two."""
    assert sharded(nodes=3, shard=6)["reduce_scatter"]["tier"] == "infiniband"


def test_where_no_rate_is_known_the_farthest_links_count() -> None:
    """Nodes of four: rank 0 sends to rank 3 on its own, ranks 1 and 2 to the next."""
    overrides = ["budget.flops=2e13", "cluster.nodes=3", "cluster.accelerators_per_node=4", "parallel.tensor=1",
                 "parallel.pipeline=4", "parallel.data=3", "train.global_batch_size=12"]  # fmt: skip
    rows = ranks(load_recipe("quickstart", overrides)[0])["traffic"]
    assert next(row["tier"] for row in rows if row["what"] == "activations") == "network"


def test_nodes_are_folded_to_those_that_tell_the_pattern() -> None:
    found = ranks(load_recipe("mt-nlg-530b")[0])
    folded = fold_nodes(found)
    assert [row and row["node"] for row in folded] == [0, 1, 2, None, 11, 12, None, 419]
    assert folded[5] == {"node": 12, "rank": "96–103", "pipeline": "1", "data": "0", "context": "0", "tensor": "0–7"}
    stages = {(row["axis"], row["what"], row["pipeline"]) for row in fold_traffic(found)}
    assert ("tensor", "layers", "0–34") in stages
    assert ("ends", "embedding", "0, 34") in stages


def test_numbers_in_words() -> None:
    assert [span([3]), span([2, 1, 0]), span([34, 0])] == ["3", "0–2", "0, 34"]


@pytest.mark.parametrize("recipe", ["mt-nlg-530b", "gpt3-175b", "gpt2-8.3b"])
def test_the_papers_layouts_are_shown(recipe: str) -> None:
    result = runner.invoke(app, ["plan", "ranks", recipe])
    assert result.exit_code == 0
    assert "gradients" in result.stdout
    assert "nvlink" in result.stdout


def test_batches_of_a_ramp_that_do_not_come_out_even_are_noted() -> None:
    """Its first batch is of 32 sequences for twelve replicas: 3 rounds, in which 4 of 36 places are empty."""
    result = runner.invoke(app, ["plan", "ranks", "mt-nlg-530b"])
    assert "40 batches of the ramp are no multiples of data × micro-batch = 12" in " ".join(result.stderr.split())
    assert "up to 11% of what is computed" in " ".join(result.stderr.split())
    fewer = runner.invoke(app, ["plan", "ranks", "mt-nlg-530b", "cluster.nodes=280", "parallel.data=8"])
    assert fewer.exit_code == 0
    assert "ramp" not in fewer.stderr


def test_a_recipe_that_leaves_its_layout_open_says_which_keys_to_give() -> None:
    with pytest.raises(RecipeError, match=r"parallel\.tensor=N parallel\.pipeline=N parallel\.data=N"):
        ranks(load_recipe("quickstart")[0])
    given = ["budget.flops=2e13", "parallel.tensor=1", "parallel.pipeline=1", "parallel.data=2"]
    found = ranks(load_recipe("quickstart", given)[0])
    assert [row["node"] for row in found["ranks"]] == [0, 0]
    assert found["traffic"][0]["seconds"] is None  # nobody has measured this machine's links
    assert any("micro_batch_size is left open" in note for note in found["notes"])
