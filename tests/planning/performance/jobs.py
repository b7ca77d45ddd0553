"""Jobs on Selene, as the papers of its time had them."""

from dataclasses import replace
from typing import Any

from megalith.job import Job
from megalith.recipe import ClusterConfig, ModelConfig
from megalith.topology import Cluster, Layout, describe

GPT_22B = ModelConfig(num_layers=48, hidden_size=6144, num_heads=64, sequence_length=2048, vocab_size=51200)
GPT_175B = ModelConfig(num_layers=96, hidden_size=12288, num_heads=96, sequence_length=2048, vocab_size=51200)


def selene(nodes: int) -> Cluster:
    return describe(ClusterConfig(name="selene", nodes=nodes))


def job(layout: Layout, model: ModelConfig = GPT_22B, **more: Any) -> Job:
    """A micro-batch of 1, and four of them for each stage; Megatron-LM in fp16."""
    made = Job(
        model=model,
        cluster=selene(-(-layout.world // 8)),
        layout=layout,
        micro_batch_size=1,
        global_batch_size=4 * layout.pipeline * layout.data,
        precision="fp16",
        fused_attention=False,
        stack="megatron",
    )
    return replace(made, **more)
