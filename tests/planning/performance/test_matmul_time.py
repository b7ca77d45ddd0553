"""Products: what tiles and waves waste."""

import pytest

from megalith.planning.performance import Constants
from megalith.planning.performance.matmul_time import Engine, engine, product, products_seconds, sustained
from megalith.topology import accelerator

A100 = accelerator("A100-SXM-80GB")
assert A100 is not None
H100 = accelerator("H100-SXM-80GB")
assert H100 is not None
IDEAL = Engine(312e12, half_depth=0.0, quantisation=1.0, hbm_bytes_per_second=2e15)


def test_tiles_that_fill_every_wave_waste_nothing() -> None:
    waves = product(256 * 108, 128, 4096, A100)
    assert waves.useful == 1.0
    assert products_seconds((waves,), IDEAL) == pytest.approx(waves.flops / 312e12)


def test_one_tile_more_than_a_wave_costs_a_whole_wave() -> None:
    seconds = [products_seconds((product(256 * tiles, 128, 4096, A100),), IDEAL) for tiles in (108, 109, 216)]
    assert seconds[1] == pytest.approx(seconds[2])
    assert seconds[1] == pytest.approx(2 * seconds[0])


def test_a_column_more_than_a_tile_costs_a_whole_tile() -> None:
    assert product(256, 129, 64, A100).useful == pytest.approx(129 / 256 * 2 / 108)


def test_half_the_depth_constant_is_where_half_is_reached() -> None:
    known = IDEAL._replace(half_depth=512.0)
    one = product(256 * 108, 128, 512, A100)
    assert products_seconds((one,), known) == pytest.approx(2 * one.flops / 312e12)


def test_a_thin_product_is_as_slow_as_memory() -> None:
    thin = product(16, 8192, 8192, A100)
    assert products_seconds((thin,), IDEAL._replace(hbm_bytes_per_second=5e11)) == pytest.approx(thin.wire_bytes / 5e11)


def test_fp8_doubles_the_rate_and_the_depth_that_a_tile_must_have() -> None:
    known = Constants(fp8_gemm=0.9)
    wide, narrow = engine(H100, "bf16", None, known), engine(H100, "bf16", "tensor", known)
    assert narrow.flops_per_second == pytest.approx(1979e12 * known.gemm * 0.9)
    assert narrow.half_depth == pytest.approx(2 * wide.half_depth)
    deep, shallow = product(8192, 8192, 8192, H100), product(8192, 8192, 64, H100)
    ratios = [products_seconds((one,), wide) / products_seconds((one,), narrow) for one in (deep, shallow)]
    assert 1.7 < ratios[0] < 1.8 and ratios[1] < ratios[0]
    assert engine(H100, "bf16", "block", known).flops_per_second < narrow.flops_per_second


def test_a_board_with_less_power_runs_its_cores_slower() -> None:
    limited = accelerator("H100-SXM-96GB-500W")
    assert limited is not None and H100 is not None and A100 is not None
    assert sustained(H100) == pytest.approx(1.0) == sustained(A100)
    assert sustained(limited) == pytest.approx((500 / 700) ** (1 / 3))
    known = Constants()
    assert engine(limited, "bf16", None, known).flops_per_second < engine(H100, "bf16", None, known).flops_per_second
