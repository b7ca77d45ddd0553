"""Torch and NCCL set to give the same bits on every run in one layout."""

import os

import torch

_OF_GPUS = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # else cuBLAS refuses; read at its first call
    "NCCL_ALGO": "Ring",  # else NCCL chooses by the machine, and adds in another order; read with the first message
    "NCCL_PROTO": "Simple",
}


def compute_deterministically() -> None:
    """Have torch choose algorithms that give the same bits each time, without the cost of filling new memory."""
    for name, value in _OF_GPUS.items():
        os.environ.setdefault(name, value)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by a module class
