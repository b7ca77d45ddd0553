"""Small jobs, and the dry run of the same."""

from dataclasses import replace
from typing import Any

from megalith.job import Job
from megalith.planning.dryrun import dryrun
from megalith.recipe import ModelConfig, Recipe
from megalith.topology import describe

SMALL = {
    "num_layers": 4,
    "hidden_size": 128,
    "num_heads": 4,
    "sequence_length": 256,
    "ffn_hidden_size": 640,
    "vocab_size": 1000,
    "vocab_multiple": 8,
}
LLAMA = {
    "positions": "rotary",
    "norm": "rmsnorm",
    "activation": "swiglu",
    "bias": False,
    "num_kv_heads": 2,
    "tie_embeddings": False,
}
DROPOUT = {"dropout": 0.1}
QWEN3 = LLAMA | {"query_key_norm": "head", "head_size": 48, "qkv_bias": True}
OLMO2 = LLAMA | {"query_key_norm": "whole", "layer_norm": "reordered", "num_kv_heads": 4}
PYTHIA = {
    "positions": "rotary",
    "rotary_fraction": 0.25,
    "parallel_residual": True,
    "activation": "gelu_exact",
    "tie_embeddings": False,
}
GOPHER = {"positions": "relative", "norm": "rmsnorm", "tie_embeddings": False}
MISTRAL = LLAMA | {"sliding_window": 60}


def small(parallel: dict[str, Any], model: dict[str, Any], train: dict[str, Any]) -> Recipe:
    """A recipe on one node of GPUs."""
    axes = {"tensor": 1, "pipeline": 1, "data": 1} | parallel
    world = axes["tensor"] * axes["pipeline"] * axes["data"] * axes.get("context", 1)
    shape = SMALL | model
    place = {"name": "dgx-a100", "accelerators_per_node": world}
    return Recipe.model_validate(
        {
            "name": "small",
            "about": "small",
            "model": shape,
            "parallel": axes,
            "cluster": place,
            "train": {"global_batch_size": 8, "micro_batch_size": 2, "precision": "bf16", "tokens": 10**6} | train,
            "tokenize": {"vocab_size": shape["vocab_size"]},
        }
    )


def job_of(recipe: Recipe, stack: str = "megalith") -> Job:
    """The same question, as the planner asks it."""
    return replace(Job.of(recipe, describe(recipe.cluster)), stack=stack)


def peaks(recipe: Recipe, *ranks: int, stages: bool = False) -> dict[int, float]:
    """By pipeline rank, what the dry run allocates."""
    found = dryrun(recipe, ranks, stages=stages)
    return {row["pipeline"]: row["peak_bytes"] for row in found["ranks"]}


def gpt(**changes: Any) -> ModelConfig:
    """A GPT of 22 billion parameters (2205.05198, Table 3), with `changes`."""
    shape = {"num_layers": 48, "hidden_size": 6144, "num_heads": 64, "sequence_length": 2048, "vocab_size": 51200}
    return ModelConfig.model_validate(shape | changes)
