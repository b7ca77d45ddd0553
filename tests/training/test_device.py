"""How a device is set up: by the recipe, and by what it is."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from megalith.recipe import Recipe
from megalith.training.device import ALLOCATOR, is_compiled, is_deterministic, set_up, settle_allocator
from tests.training.small import small_recipe

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("CUBLAS_WORKSPACE_CONFIG", "NCCL_ALGO", "NCCL_PROTO", *ALLOCATOR):
        monkeypatch.delenv(name, raising=False)
    precision, deterministic = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_float32_matmul_precision(precision)
    torch.use_deterministic_algorithms(deterministic)


def recipe(parallel: dict[str, Any] | None = None, **train: Any) -> Recipe:
    return small_recipe(parallel=parallel or {}, **train)


@pytest.mark.parametrize(
    ("asked", "on_cpu", "on_gpu"), [(None, True, False), (True, True, True), (False, False, False)]
)
def test_steps_are_deterministic_by_default_on_a_cpu_alone(asked: bool | None, on_cpu: bool, on_gpu: bool) -> None:
    for device, wanted in ((CPU, on_cpu), (GPU, on_gpu)):
        assert is_deterministic(recipe(deterministic=asked), device) == wanted
        set_up(recipe(deterministic=asked), device)
        assert torch.are_deterministic_algorithms_enabled() == wanted
    names = ("CUBLAS_WORKSPACE_CONFIG", "NCCL_ALGO", "NCCL_PROTO")
    assert [os.environ.get(name) for name in names] == ([":4096:8", "Ring", "Simple"] if on_cpu else [None] * 3)


def test_layers_are_compiled_by_default_on_a_gpu_where_nothing_forbids_it() -> None:
    assert is_compiled(recipe(), GPU)
    assert not is_compiled(recipe(), CPU)
    assert not is_compiled(recipe(compile=False), GPU)
    assert is_compiled(recipe(compile=True), CPU)
    assert not is_compiled(recipe({"pipeline": 2, "schedule": "zb-h1"}), GPU)
    assert is_compiled(recipe({"pipeline": 2}), GPU)


def test_fp32_is_fp32_and_what_is_left_of_it_elsewhere_is_tf32() -> None:
    for precision, wanted in (("fp32", "highest"), ("bf16", "high")):
        set_up(recipe(precision=precision), CPU)
        assert torch.get_float32_matmul_precision() == wanted


def test_a_user_s_own_allocator_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "backend:cudaMallocAsync")
    settle_allocator()
    assert os.environ.get("PYTORCH_ALLOC_CONF") is None
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    settle_allocator()
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
