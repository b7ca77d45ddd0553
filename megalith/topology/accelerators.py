"""The accelerators: what one of each kind can do at most, by its datasheet.

Rates are dense (without structured sparsity), for accumulation in fp32, at the boost clock that the vendor states. What
of them a program reaches is for the planner to say.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Generation = Literal["v100", "a100", "h100", "b200", "mi300x"]


@dataclass(frozen=True)
class Accelerator:
    """One kind of accelerator."""

    name: str
    generation: Generation
    """Those of one generation have the same cores: what a program reaches of the peaks is alike."""
    flops_per_second: Mapping[str, float] = field(hash=False)
    """Peak of matrix products by type; fp32 is true fp32, not TF32."""
    hbm_bytes: float
    hbm_bytes_per_second: float
    multiprocessors: int
    """Streaming multiprocessors, or AMD's compute units: what the tiles of a product are dealt to."""
    tile: tuple[int, int]
    """Rows and columns of a product's tile in the library's largest kernels, which are the efficient ones."""
    tdp_watts: float
    is_listed: bool = True
    """False of one that a cluster's file describes: the constants of its generation were fitted to other ones."""

    def __hash__(self) -> int:
        """By name and memory: the rest follows, but for two files that call two things the same."""
        return hash((self.name, self.hbm_bytes))

    def peak(self, precision: str) -> float:
        """FLOP/s of `precision`; fp16's where bf16 is missing."""
        return self.flops_per_second.get(precision) or self.flops_per_second["fp16"]


def accelerator(name: str) -> Accelerator | None:
    """The facts of an accelerator by the name that `Cluster.accelerator` has; None for an unknown one."""
    return _ACCELERATORS.get(name)


def _peaks(**rates: float) -> Mapping[str, float]:
    return MappingProxyType({precision: rate * 1e12 for precision, rate in rates.items()})


_V100 = _peaks(fp16=125, fp32=15.7)  # V100 datasheet, SXM2
_A100 = _peaks(bf16=312, fp16=312, fp32=19.5)  # A100 datasheet, SXM
_H100 = _peaks(fp8=1979, bf16=989.5, fp16=989.5, fp32=67)  # H100 SXM datasheet: half of what it says with sparsity
_B200 = _peaks(fp8=4500, bf16=2250, fp16=2250, fp32=75)  # HGX B200 datasheet: a GPU's share of 8, dense
_MI300X = _peaks(fp8=2614.9, bf16=1307.4, fp16=1307.4, fp32=163.4)  # MI300X datasheet
_VOLTA_TILE = (128, 128)  # cuBLAS on Volta (NVIDIA, Matrix Multiplication Background)
_AMPERE_TILE = (256, 128)  # cuBLAS on Ampere and Hopper: the most efficient one (the same)
_CDNA_TILE = (256, 256)  # hipBLASLt's largest macro-tile on CDNA 3

_ALL = (
    # V100 datasheet: 32 GB at 900 GB/s, 80 SMs, 300 W; the SXM3 of a DGX-2 takes 350 W
    Accelerator("V100-SXM2-32GB", "v100", _V100, 32e9, 900e9, 80, _VOLTA_TILE, 300),
    Accelerator("V100-SXM3-32GB", "v100", _V100, 32e9, 900e9, 80, _VOLTA_TILE, 350),
    # A100 datasheet: 1,555 GB/s and 2,039 GB/s, 400 W; architecture paper: 108 SMs
    Accelerator("A100-SXM-40GB", "a100", _A100, 40e9, 1555e9, 108, _AMPERE_TILE, 400),
    Accelerator("A100-SXM-80GB", "a100", _A100, 80e9, 2039e9, 108, _AMPERE_TILE, 400),
    # H100 datasheet, SXM: 80 GB at 3.35 TB/s, up to 700 W; architecture paper: 132 SMs
    Accelerator("H100-SXM-80GB", "h100", _H100, 80e9, 3350e9, 132, _AMPERE_TILE, 700),
    # torchtitan's benchmarks: 96 GB of HBM2e and a limit of 500 W; its rate is taken for five stacks of A100's
    Accelerator("H100-SXM-96GB-500W", "h100", _H100, 96e9, 2400e9, 132, _AMPERE_TILE, 500),
    # H200 datasheet: 141 GB at 4.8 TB/s, up to 700 W, the cores of an H100
    Accelerator("H200-SXM-141GB", "h100", _H100, 141e9, 4800e9, 132, _AMPERE_TILE, 700),
    # DGX B200 datasheet: 1,440 GB and 64 TB/s for 8; HGX B200: up to 1,000 W; 148 SMs as a program finds them
    Accelerator("B200-SXM-180GB", "b200", _B200, 180e9, 8000e9, 148, _AMPERE_TILE, 1000),
    # MI300X datasheet: 192 GB at 5.3 TB/s, 304 compute units, 750 W
    Accelerator("MI300X-192GB", "mi300x", _MI300X, 192e9, 5300e9, 304, _CDNA_TILE, 750),
)
_ACCELERATORS = {one.name: one for one in _ALL}
