"""Products: what tiles and waves waste."""

import pytest

from megalith.planning.performance import Constants
from megalith.planning.performance.matmul_time import product, products_seconds
from megalith.topology import accelerator

A100 = accelerator("A100-SXM-80GB")
assert A100 is not None
IDEAL = Constants(gemm=1.0, gemm_half_depth=0.0, quantisation=1.0)


def test_tiles_that_fill_every_wave_waste_nothing() -> None:
    waves = product(256 * 108, 128, 4096, A100)
    assert waves.useful == 1.0
    assert products_seconds((waves,), A100.peak("bf16"), 2e15, IDEAL) == pytest.approx(waves.flops / 312e12)


def test_one_tile_more_than_a_wave_costs_a_whole_wave() -> None:
    seconds = [
        products_seconds((product(256 * tiles, 128, 4096, A100),), 312e12, 2e15, IDEAL) for tiles in (108, 109, 216)
    ]
    assert seconds[1] == pytest.approx(seconds[2])
    assert seconds[1] == pytest.approx(2 * seconds[0])


def test_a_column_more_than_a_tile_costs_a_whole_tile() -> None:
    assert product(256, 129, 64, A100).useful == pytest.approx(129 / 256 * 2 / 108)


def test_half_the_depth_constant_is_where_half_is_reached() -> None:
    known = Constants(gemm=1.0, gemm_half_depth=512.0, quantisation=1.0)
    one = product(256 * 108, 128, 512, A100)
    assert products_seconds((one,), 312e12, 2e15, known) == pytest.approx(2 * one.flops / 312e12)


def test_a_thin_product_is_as_slow_as_memory() -> None:
    thin = product(16, 8192, 8192, A100)
    assert products_seconds((thin,), 312e12, 5e11, IDEAL) == pytest.approx(thin.wire_bytes / 5e11)
