"""Collectives, against the formulas of a ring and of a tree written out."""

from dataclasses import replace

import pytest

from megalith.job import Job
from megalith.planning.performance import Constants
from megalith.planning.performance.collectives import (
    ACROSS,
    all_reduce_seconds,
    beside_sends,
    group,
    half_seconds,
    send_seconds,
)
from megalith.recipe import load_recipe
from megalith.topology import Layout
from tests.planning.performance.jobs import selene

WHOLE = Constants(node_link=1.0, network=1.0)


def test_a_ring_inside_a_node_sends_twice_all_but_one_part() -> None:
    inside = group(selene(1), 8, 1)
    assert all_reduce_seconds(8e9, inside, WHOLE) == pytest.approx(2 * 7e9 / 300e9 + 14 * 3.4e-6)


def test_one_rank_sends_nothing() -> None:
    assert all_reduce_seconds(8e9, group(selene(4), 1, 8), WHOLE) == 0.0


def test_ranks_of_a_node_lend_a_ring_their_adapters_and_other_rings_keep_theirs() -> None:
    cluster = selene(4)
    whole_nodes, one_each = group(cluster, 32, 1), group(cluster, 4, 8)
    assert whole_nodes.bytes_per_second == pytest.approx(8 * 25e9)
    assert one_each.bytes_per_second == pytest.approx(25e9)
    assert half_seconds(4e9, one_each, WHOLE) == pytest.approx(3e9 / 25e9, rel=1e-3)


def test_a_small_all_reduce_over_many_nodes_takes_the_tree() -> None:
    over = group(selene(512), 512, 8)
    ring = 2 * 512 * over.far_latency
    assert all_reduce_seconds(1e3, over, WHOLE) == pytest.approx(2 * 9 * over.far_latency, rel=0.01)
    assert all_reduce_seconds(1e3, over, WHOLE) < ring / 20


def test_a_message_has_the_adapter_of_its_rank() -> None:
    over = group(selene(4), 2, 8)
    assert send_seconds(25e9, over, WHOLE) == pytest.approx(1.0, rel=1e-3)


def test_sums_across_nodes_share_their_adapters_with_sends_and_reach_less() -> None:
    cluster = selene(4)
    over = group(cluster, 16, 1)
    alone = Job(load_recipe("gpt3-175b")[0].model, cluster, Layout(16, 1, 2), 1, 64)
    piped = replace(alone, layout=Layout(16, 2, 1))
    assert beside_sends(over, alone, 8, whole=False).bytes_per_second == pytest.approx(ACROSS * 200e9)
    # eight adapters take 4 sums of each of 8 layers, and each a sixteenth of the stream
    sums = 4 * 8 / 8
    expected = ACROSS * 200e9 * sums / (sums + 1 / 16)
    assert beside_sends(over, piped, 8, whole=False).bytes_per_second == pytest.approx(expected)
    assert beside_sends(over, piped, 8, whole=True).bytes_per_second < expected
    near = group(cluster, 8, 1)
    assert beside_sends(near, piped, 8, whole=False) == near
