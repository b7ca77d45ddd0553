"""Rates of this machine, against a clock of our own."""

import math
import time

import pytest
import torch

from megalith.planning.measuring import rates


def test_the_rate_of_a_product_is_its_flops_over_its_time() -> None:
    """Against a plain clock around the same product, the best of many: other programs run too."""
    left, right = torch.ones(256, 256), torch.ones(256, 256)
    fastest = math.inf
    with rates.using_threads(1):
        left @ right
        for _ in range(50):
            start = time.perf_counter()
            left @ right
            fastest = min(fastest, time.perf_counter() - start)
    plain = 2 * 256**3 / fastest
    rate = rates.measure_gemm_flops_per_second(torch.float32, 1, (256, 256, 256), seconds=0.05)
    assert plain / 3 < rate < plain * 30


def test_threads_are_put_back_also_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), rates.using_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == before


def test_the_best_of_several_attempts_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    naps, now = iter([0.0, 0.03, 0.01, 0.02, 0.03]), 0.0

    def nap() -> None:
        nonlocal now
        now += next(naps)

    monkeypatch.setattr(rates.time, "perf_counter", lambda: now)
    assert rates.best_seconds(nap, seconds=0.0, least=4) == pytest.approx(0.01)


def test_a_precision_that_is_slower_than_fp32_is_left_out_with_its_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = rates_of(monkeypatch, {torch.float32: 1e11, torch.bfloat16: 5e8})
    found = rates.measure_rates(2)
    assert found.flops_per_second == {"fp32": 1e11}
    assert "0.5 GFLOP/s" in found.left_out["bf16"]
    assert "100 in fp32" in found.left_out["bf16"]
    assert [size for dtype, size in asked if dtype is torch.bfloat16] == [rates.PEAK_SIZES[0]]


def test_a_precision_that_is_faster_is_measured_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = rates_of(monkeypatch, {torch.float32: 1e12, torch.bfloat16: 1e13})
    assert rates.measure_rates(2) == rates.Rates({"fp32": 1e12, "bf16": 1e13}, {})
    assert (torch.bfloat16, rates.PEAK_SIZES[-1]) in asked


def test_a_product_that_would_take_long_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 1 GFLOP/s four products of 512 take 1.1 s."""
    asked = rates_of(monkeypatch, {torch.float32: 1e9})
    assert rates.measure_peak_flops_per_second(torch.float32, 1) == 1e9
    assert asked == [(torch.float32, 256)]


def rates_of(monkeypatch: pytest.MonkeyPatch, known: dict[torch.dtype, float]) -> list[tuple[torch.dtype, int]]:
    """Let products have these rates; the products that are asked for are added to the list."""
    asked: list[tuple[torch.dtype, int]] = []

    def measure(dtype: torch.dtype, threads: int, shape: tuple[int, int, int], seconds: float = 0.15) -> float:
        asked.append((dtype, shape[0]))
        return known[dtype]

    for name in ("measure_gemm_flops_per_second", "measure_mm_flops_per_second"):
        monkeypatch.setattr(rates, name, measure)
    return asked
