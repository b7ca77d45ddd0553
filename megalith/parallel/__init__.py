"""Data, tensor and pipeline parallelism, ZeRO and recomputation, applied to a model from outside."""

from megalith.parallel.context import MicroBatch
from megalith.parallel.deterministic import compute_deterministically
from megalith.parallel.distributed_model import DistributedModel
from megalith.parallel.dropout import dropout_seed
from megalith.parallel.master_weights import Master, local
from megalith.parallel.mesh import Mesh, build_mesh, init_process_group
from megalith.parallel.optimizer import Optimizer
from megalith.parallel.parallelize import FirstValue, parallelize
from megalith.parallel.step import Outcome, clip_factor, compute_dtype, loss_weights, take_step, update

__all__ = [
    "DistributedModel",
    "FirstValue",
    "Master",
    "Mesh",
    "MicroBatch",
    "Optimizer",
    "Outcome",
    "build_mesh",
    "clip_factor",
    "compute_deterministically",
    "compute_dtype",
    "dropout_seed",
    "init_process_group",
    "local",
    "loss_weights",
    "parallelize",
    "take_step",
    "update",
]
