"""Torch set to give the same bits on every run."""

import os

import torch


def compute_deterministically() -> None:
    """Have torch choose algorithms that give the same bits each time, without the cost of filling new memory."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS refuses; read at its first call
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set by a module class
