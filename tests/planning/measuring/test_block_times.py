"""Blocks and toy pipelines are timed on data-parallel ranks, whose gradients go out under the backward pass."""

import torch
from torch import Tensor

from megalith.parallel import Mesh
from megalith.planning.measuring.block_times import time_block, time_pipeline
from megalith.recipe import ModelConfig, ParallelConfig
from tests.parallel.processes import on_ranks

MODEL = ModelConfig(num_layers=1, hidden_size=32, num_heads=2, sequence_length=16, vocab_size=64)


def timed(rank: int) -> dict[str, Tensor]:
    """How often each thing was timed."""
    block = {
        "model": MODEL.model_dump(mode="json"),
        "parallel": ParallelConfig(tensor=1, data=2).model_dump(mode="json"),
        "precision": "fp32",
        "micro_batch_size": 1,
        "seconds": 0.05,
    }
    found = time_block(block, Mesh(rank, 4)) | time_pipeline({"pipeline": 2, "seconds": 0.05}, Mesh(rank, 4))
    return {name: torch.tensor(len(each)) for name, each in found.items()}


def test_each_is_repeated_on_all_ranks() -> None:
    names = {"forward", "backward", "update", "read", "embed", "unembed", "few", "many", "micro_batches"}
    first, *others = on_ranks(4, timed)
    assert first.keys() == names
    assert all(first[name] >= 2 for name in names - {"micro_batches"})
    assert all(each == first for each in others)
