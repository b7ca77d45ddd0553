"""The accelerators and the machines that hold them."""

import pytest

from megalith.recipe import ClusterConfig
from megalith.topology import LOCAL, accelerator, describe, known_clusters


def test_every_cluster_has_an_accelerator_whose_facts_are_known() -> None:
    for name in known_clusters():
        if name == LOCAL:
            continue
        cluster = describe(ClusterConfig(name=name))
        assert cluster.facts is not None, name
        assert cluster.peak_flops_per_second == pytest.approx(cluster.facts.peak("bf16"), rel=0.05), name
        assert 0.9 < cluster.memory_bytes / cluster.facts.hbm_bytes < 1.1, name


def test_what_users_ask_for_is_described() -> None:
    wanted = ("V100", "A100-SXM-40GB", "A100-SXM-80GB", "H100-SXM-80GB", "H200", "B200", "MI300X")
    held = {describe(ClusterConfig(name=name)).accelerator for name in set(known_clusters()) - {LOCAL}}
    assert all(any(name.startswith(start) for name in held) for start in wanted)
    assert {"selene", "dgx-h100", "dgx-h200", "dgx-b200", "mi300x", "jeanzay", "local"} <= set(known_clusters())


def test_a_card_without_bf16_gives_fp16s_rate_and_an_unknown_one_nothing() -> None:
    v100 = accelerator("V100-SXM2-32GB")
    assert v100 is not None
    assert v100.peak("bf16") == 125e12
    assert accelerator("abacus") is None
