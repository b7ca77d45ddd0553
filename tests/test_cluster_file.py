"""Clusters from files: those that come with Megalith, one's own, and all that can be wrong with one, at once."""

from pathlib import Path

import pytest
import yaml

from megalith.errors import MegalithError, RecipeError
from megalith.job import Job
from megalith.planning.layout import layout
from megalith.planning.performance import constants_for
from megalith.recipe import ClusterConfig, load_recipe
from megalith.topology import Cluster, describe, described_clusters

OWN = {
    "name": "ours",
    "accelerator": {
        "name": "XPU-32GB", "generation": "ampere", "memory_gb": 32, "bandwidth_gb_per_second": 1000,
        "tflops": {"bf16": 200}, "multiprocessors": 100, "watts": 300,
    },
    "node": {"accelerators": 4, "link": "pcie", "link_gb_per_second": 30, "host_memory_gb": 512, "watts": 2000},
    "network": {
        "name": "ethernet", "adapters": 2, "gigabits_per_second": 100,
        "tiers": [{"nodes": 4}, {"oversubscription": 4}],
    },
    "most_nodes": 16,
    "price_per_hour": 1.5,
    "pue": 1.5,
}  # fmt: skip


def written(folder: Path, **changed: object) -> Path:
    path = folder / "ours.yaml"
    path.write_text(yaml.safe_dump({**OWN, **changed}), encoding="utf-8")
    return path


def cluster(folder: Path, nodes: int = 1, **changed: object) -> Cluster:
    return describe(ClusterConfig(file=written(folder, **changed), nodes=nodes))


@pytest.mark.parametrize("name", described_clusters())
def test_every_file_that_comes_with_megalith_is_a_cluster_with_sources(name: str) -> None:
    found = describe(ClusterConfig(name=name))
    assert found.name == name
    assert found.facts is not None
    assert 0.9 * found.facts.hbm_bytes < found.memory_bytes < 1.08 * found.facts.hbm_bytes
    assert found.peak_flops_per_second == found.facts.peak("bf16") > 1e14
    assert yaml.safe_load(described_clusters()[name].read_text(encoding="utf-8"))["sources"]
    more = describe(ClusterConfig(name=name, nodes=64))
    assert more.tiers[-1].bytes_per_second
    assert more.tiers[-1].bytes_per_second <= (found.tiers[0].bytes_per_second or 0.0)


def test_rates_are_of_one_accelerator_and_thinner_beyond_a_switch(tmp_path: Path) -> None:
    found = cluster(tmp_path, 16)
    assert [tier.nodes for tier in found.tiers] == [1, 4, None]
    near, switch, spine = (tier.bytes_per_second for tier in found.tiers)
    assert (near, switch) == (30e9, pytest.approx(2 * 100e9 / 8 / 4))
    assert spine == pytest.approx((switch or 0.0) / 4)
    assert found.accelerators == 64
    assert found.memory_bytes == pytest.approx(0.97 * 32e9)


def test_an_accelerator_that_nobody_measured_has_wider_intervals_and_a_note(tmp_path: Path) -> None:
    recipe = load_recipe("gpt2-8.3b", ["cluster=dgx-a100"])[0]
    listed = constants_for(Job.of(recipe, describe(recipe.cluster)))
    own = constants_for(Job.of(recipe, cluster(tmp_path)))
    assert own.spread > 1.3 * listed.spread
    assert own.gemm == listed.gemm
    assert any("A100" in note and "wider" in note for note in cluster(tmp_path).notes)
    assert not describe(ClusterConfig(name="dgx-b200")).notes


def test_a_layout_is_planned_for_it_with_its_price_and_power(tmp_path: Path) -> None:
    path = written(tmp_path)
    recipe = load_recipe(
        "gpt2-2.5b", [f"cluster={path}", "cluster.nodes=4", "parallel={}", "train.tokens=100000000000"]
    )[0]
    assert recipe.cluster.name == "ours"
    found = layout(recipe)
    assert (found["cluster"], found["accelerators"]) == ("ours", 16)
    hours = found["run"]["accelerator_hours"]
    assert found["run"]["money"] == pytest.approx(1.5 * hours)
    assert found["run"]["energy_kwh"] == pytest.approx(0.76 * 500 * 1.5 * hours / 1000)
    assert any("A100" in note for note in found["notes"])
    assert layout(recipe, price=3.0)["run"]["money"] == pytest.approx(3.0 * hours)


def test_mixed_nodes_are_refused_or_planned_by_the_slowest_of_each_figure(tmp_path: Path) -> None:
    kinds = ["A100-SXM-80GB", "H100-SXM-80GB"]
    with pytest.raises(RecipeError, match="mixed: slowest"):
        cluster(tmp_path, accelerator=kinds)
    found = cluster(tmp_path, accelerator=kinds, mixed="slowest")
    assert found.peak_flops_per_second == 312e12
    assert found.facts is not None
    assert found.facts.hbm_bytes_per_second == 2039e9
    assert "slowest" in found.notes[-1]


def test_all_that_is_wrong_is_told_at_once_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "name: bad\naccelerator:\n  name: A100-SXM-80GB\n  memory_gb: -3\n  bandwith: 3\nnode:\n  accelerators: 0\n"
        "network: {adapters: 1}\n",
        encoding="utf-8",
    )
    with pytest.raises(RecipeError) as caught:
        describe(ClusterConfig(file=path))
    said = str(caught.value)
    for part in ("4 things", "line 4: accelerator.memory_gb is -3", "line 5: accelerator.bandwith is not a key",
                 "line 7: node.accelerators is 0", "network.gigabits_per_second is missing"):  # fmt: skip
        assert part in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"accelerator": {"name": "XPU"}}, "memory_gb and bandwidth_gb_per_second and tflops and watts are missing"),
        ({"accelerator": {**OWN["accelerator"], "tflops": {"fp32": 20}}}, "neither bf16 nor fp16"),  # type: ignore[dict-item]
        ({"node": {"accelerators": 4}}, "link_gb_per_second is missing"),
        ({"network": {**OWN["network"], "tiers": [{"nodes": 4}]}}, "spans all"),  # type: ignore[dict-item]
        ({"name": "local"}, "this machine"),
        ({"network": None}, "most_nodes is 16"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path: Path, changed: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        cluster(tmp_path, **changed)


def test_no_file_no_network_and_no_mapping_are_told(tmp_path: Path) -> None:
    with pytest.raises(MegalithError, match="nowhere"):
        describe(ClusterConfig(file=tmp_path / "nowhere.yaml"))
    alone = written(tmp_path, network=None, most_nodes=1)
    with pytest.raises(RecipeError, match="1 nodes"):
        describe(ClusterConfig(file=alone, nodes=2))
    (tmp_path / "list.yaml").write_text("- 1\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="mapping"):
        describe(ClusterConfig(file=tmp_path / "list.yaml"))


def test_a_recipe_names_a_file_or_a_cluster_in_a_word_and_overrides_take_its_place(tmp_path: Path) -> None:
    path = written(tmp_path)
    source = tmp_path / "recipe.yaml"
    source.write_text(
        f"name: own\nabout: x\ncluster: {path}\nmodel: {{num_layers: 4, hidden_size: 256, num_heads: 4}}\n"
        "train: {tokens: 1000000}\ntokenize: {vocab_size: 50257}\n",
        encoding="utf-8",
    )
    assert load_recipe(source)[0].cluster == ClusterConfig(file=path, name="ours")
    assert load_recipe(source, ["cluster.nodes=3"])[0].cluster == ClusterConfig(file=path, name="ours", nodes=3)
    assert load_recipe(source, ["cluster.name=selene"])[0].cluster == ClusterConfig(name="selene")
    assert load_recipe(source, ["cluster=selene"])[0].cluster == ClusterConfig(name="selene")
    assert load_recipe("llama-8b", [f"cluster.file={path}"])[0].cluster.file == path
    assert "file" not in load_recipe("llama-8b")[0].cluster.model_dump()
