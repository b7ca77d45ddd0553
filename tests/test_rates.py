"""Rates of this machine, against a clock of our own."""

import time

import pytest
import torch

from megalith import rates


def test_the_rate_of_a_product_is_its_flops_over_its_time() -> None:
    """Against a plain clock around the same product: within a factor of three, since other programs run too."""
    left, right = torch.ones(256, 256), torch.ones(256, 256)
    with rates.using_threads(1):
        left @ right
        start = time.perf_counter()
        for _ in range(50):
            left @ right
        plain = 50 * 2 * 256**3 / (time.perf_counter() - start)
    rate = rates.measure_gemm_flops_per_second(torch.float32, 1, (256, 256, 256), seconds=0.05)
    assert plain / 3 < rate < plain * 30


def test_threads_are_put_back_also_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), rates.using_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == before


def test_the_best_of_several_attempts_counts() -> None:
    naps = iter([0.0, 0.03, 0.01, 0.02, 0.03])
    assert 0.01 <= rates.best_seconds(lambda: time.sleep(next(naps)), seconds=0.0, least=4) < 0.02
