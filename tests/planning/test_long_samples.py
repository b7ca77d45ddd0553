"""A Llama of 8 billion parameters on samples of 32,768 tokens, which four pairs of ranks share: dry-run by hand."""

from collections import Counter
from typing import Any

import pytest

from megalith.job import Job
from megalith.planning.dryrun import dryrun
from megalith.planning.performance.memory import estimate_memory
from megalith.planning.performance.traffic import step_traffic
from megalith.planning.rank_map import ranks
from megalith.recipe import Recipe, load_recipe
from megalith.topology import describe

LAYERS, MICRO_BATCHES, BF16 = 32, 4, 2
TOKENS = 32_768 // 4  # of a rank
QUERIES, KEYS, HEAD_DIM = 32 // 2, 8 // 2, 128  # heads of a tensor-parallel rank


def long_llama() -> Recipe:
    """CP 4 × TP 2 on a node of eight, its layers computed again."""
    axes = "tensor: 2, pipeline: 1, data: 1, context: 4, sequence_parallel: true, zero: 1, recompute: full"
    recipe, _ = load_recipe(
        "llama-8b",
        ["cluster=dgx-h100", "cluster.nodes=1", "model.sequence_length=32768", f"parallel={{{axes}}}",
         f"train.global_batch_size={MICRO_BATCHES}", "train.micro_batch_size=1", "train.precision=bf16"],
    )  # fmt: skip
    return recipe


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return dryrun(long_llama(), [5])


def test_queries_keys_and_values_go_to_the_ranks_of_their_heads_and_come_back(found: dict[str, Any]) -> None:
    """4 of a tensor-parallel rank's 16 heads of queries, and one of its 4 of keys, to each of 4 ranks."""
    keys_and_values = TOKENS * 2 * KEYS * HEAD_DIM * BF16
    queries = outputs = TOKENS * QUERIES * HEAD_DIM * BF16
    assert (keys_and_values, queries) == (16_777_216, 33_554_432)
    rows = [row for row in found["ranks"][0]["collectives"] if row["axis"] == "context"]
    assert sorted(row["pass"] for row in rows) == ["backward", "forward", "recomputation"]
    for row in rows:
        assert (row["collective"], row["what"], row["ranks"]) == ("all_to_all", "layers", [1, 3, 5, 7])
        assert row["count"] == 2 * LAYERS * MICRO_BATCHES
        assert row["payload_bytes"] == LAYERS * MICRO_BATCHES * (keys_and_values + queries + outputs) == 10_737_418_240


def test_the_planner_counts_the_same_messages_and_the_same_memory(found: dict[str, Any]) -> None:
    job = Job.of(long_llama(), describe(long_llama().cluster))
    (row,) = found["ranks"]
    assert row["fits"]
    assert estimate_memory(job).stages[0].allocated_bytes == pytest.approx(row["peak_bytes"], rel=0.02)
    sent, formulas = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for each in row["collectives"]:
        if each["axis"] != "all":
            sent[each["axis"], each["collective"]] += each["payload_bytes"]
    for one in step_traffic(job, 0):
        formulas[one.axis, one.collective] += one.payload_bytes
    assert sent == formulas


def test_the_rank_map_has_the_four_axes() -> None:
    told = ranks(long_llama())
    assert told["layout"] == {"tensor": 2, "pipeline": 1, "data": 1, "context": 4}
    assert told["ranks"][5] == {"rank": 5, "node": 0, "pipeline": 0, "data": 0, "context": 2, "tensor": 1}
    (row,) = (row for row in told["traffic"] if row["axis"] == "context")
    assert (row["tier"], row["group_size"]) == ("nvlink", 4)
    assert row["wire_bytes"] == row["payload_bytes"] * 3 / 4
