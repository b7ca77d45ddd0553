"""Constants that say how near a program comes to a datasheet, their priors, and the files that hold them.

A constants file has one set for a generation of accelerators and a multiplier for each software stack; `calibrate`
writes it and says in it what was fitted and what was held out. Where nothing was calibrated, the priors stand.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from statistics import NormalDist
from typing import Any

from megalith.errors import InputError
from megalith.input_files import read_json
from megalith.job import Job
from megalith.topology import Cluster

SCHEMA = 2
COVERAGE = 0.8  # what share of measurements an interval is to hold
STACK_PRIOR = 0.12  # log-normal spread of a stack's multiplier around 1
OWN_STACK_SPREAD = 0.05  # of its multiplier on one generation around that on all
PRIOR_SPREAD = 0.18  # log error of a prediction by priors alone: H100 rows under A100's efficiencies


@dataclass(frozen=True)
class Constants:
    """Fractions of the datasheet, and times, of one generation of accelerators under one software stack."""

    gemm: float = 0.76
    """Share of the peak that a large product reaches."""
    gemm_half_depth: float = 146.0
    """The inner dimension at which a product reaches half of that."""
    quantisation: float = 0.575
    """Exponent on the share of tiles and waves that do useful work: below 1, libraries split what is left."""
    fp8_gemm: float = 0.95
    """The same share for fp8, of which this is a multiple: scales and power take their part of the doubled peak."""
    fused_attention: float = 1.0
    """Rate of fused attention, as a multiple of what its kernel's source says (`attention_time`)."""
    memory: float = 0.8
    """Share of the memory's bandwidth that norms, activations, residuals and softmax reach."""
    node_link: float = 0.72
    """Share of the rate inside a node that collectives reach."""
    network: float = 0.8
    """Share of the rate between nodes that collectives and sends reach."""
    gradient_network: float = 0.4
    """Share of the network's rate that gradients reach in one reduction at the end, or in small buckets."""
    straggling: float = 0.012
    """Standard deviation of a node's step time, as a share: a step waits for the slowest of them."""
    launch_seconds: float = 70e-6
    """Host time of a layer's forward, once for the forward and twice for the backward."""
    stack: float = 1.0
    """Time of computation under this software, as a multiple."""
    spread: float = PRIOR_SPREAD
    """Standard deviation of log(measured / predicted) for rows held out."""
    coverage: float = COVERAGE
    """Share of measurements within the interval."""
    most_accelerators: int = 0
    """The largest job among what was fitted; 0 where nothing was."""


SHARED_SPREADS: Mapping[str, float] = {
    "gemm": 0.04,
    "gemm_half_depth": 0.3,
    "quantisation": 0.35,
    "fp8_gemm": 0.12,
    "fused_attention": 0.2,
    "memory": 0.25,
    "node_link": 0.1,
    "network": 0.2,
    "gradient_network": 0.5,
    "straggling": 0.4,
    "launch_seconds": 0.4,
}
"""The fitted constants, and the log-normal spread of what all generations have in common around their priors."""

OWN_SPREADS: Mapping[str, float] = {
    "gemm": 0.05,
    "gemm_half_depth": 0.2,
    "quantisation": 0.2,
    "fp8_gemm": 0.05,
    "fused_attention": 0.15,
    "memory": 0.2,
    "node_link": 0.08,
    "network": 0.1,
    "gradient_network": 0.3,
    "straggling": 0.25,
    "launch_seconds": 0.3,
}
"""The spread of each generation's own part around that."""

UNITS: Mapping[str, str] = {
    "gemm": "of peak",
    "gemm_half_depth": "elements",
    "quantisation": "exponent",
    "fp8_gemm": "of gemm",
    "fused_attention": "of the kernel's",
    "memory": "of bandwidth",
    "node_link": "of rate",
    "network": "of rate",
    "gradient_network": "of network",
    "straggling": "of a step",
    "launch_seconds": "seconds",
}

PRIORS: Mapping[str, Constants] = {
    "v100": Constants(gemm=0.72, network=0.7),
    "a100": Constants(),
    # cuBLAS holds 600 to 700 TFLOP/s of bf16 on an H100 at its power limit, and 1,200 to 1,400 of fp8
    "h100": Constants(gemm=0.68, launch_seconds=55e-6),
    # SimuMax (configs/system/b200_bf16_ceperm.json@e691807a), measured on eight B200s: products of 4,096 tokens reach
    # 0.49 forward and 0.455 for weights at the power limit, collectives 0.67 to 0.74 of NVLink, copies 0.67 of HBM
    "b200": Constants(gemm=0.52, memory=0.67, node_link=0.7, launch_seconds=50e-6),
    "mi300x": Constants(gemm=0.48, node_link=0.6),
    "local": Constants(gemm=0.8, gemm_half_depth=1.0, memory=0.7),
}


@functools.cache
def normal_quantile(coverage: float) -> float:
    """How many standard deviations to either side hold `coverage` of a normal distribution."""
    return NormalDist().inv_cdf((1 + coverage) / 2)


def constants_for(job: Job, files: Mapping[str, Mapping[str, Any]] | None = None) -> Constants:
    """The constants for the job's accelerator and software: of `files` (`read_constants`), else the shipped ones.

    Where nothing was calibrated, the priors stand; they and their spread are in the sets' place.
    """
    found = of_generation(generation_of(job.cluster), job.stack, shipped() if files is None else files)
    return found if files or job.cluster.facts is None or job.cluster.facts.is_listed else _stand_in(found)


def generation_of(cluster: Cluster) -> str:
    """Which accelerators' constants are a cluster's; this machine's, "local"."""
    return cluster.facts.generation if cluster.facts else "local"


def of_generation(generation: str, stack: str, files: Mapping[str, Mapping[str, Any]]) -> Constants:
    """The constants in `files` (by generation) for a stack; a stack that was not seen gets a multiplier of 1."""
    return _of_file(generation, stack, _Frozen(files))


@functools.lru_cache(maxsize=64)
def _stand_in(constants: Constants) -> Constants:
    """Another accelerator's constants for one that nobody has measured: as unsure as priors, on top of their own."""
    return replace(constants, spread=math.hypot(constants.spread, PRIOR_SPREAD), most_accelerators=0)


class _Frozen:
    """Calibrated files as a cache's key: the same object is the same files."""

    def __init__(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        self.files = files

    def __hash__(self) -> int:
        return id(self.files)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and other.files is self.files


@functools.lru_cache(maxsize=256)
def _of_file(generation: str, stack: str, frozen: _Frozen) -> Constants:
    record = frozen.files.get(generation)
    return PRIORS[generation] if record is None else _of_set(record, stack)


def _of_set(record: Mapping[str, Any], stack: str) -> Constants:
    values = {name: entry["value"] for name, entry in record["constants"].items()}
    residuals = record["residuals"]
    found = replace(
        PRIORS[record["generation"]],
        **values,
        spread=math.hypot(residuals["spread"], STACK_PRIOR),
        coverage=residuals["coverage"],
        most_accelerators=record["most_accelerators"],
    )
    known = record["stacks"].get(stack)
    if known is None:
        return found
    return replace(
        found, stack=known["multiplier"], spread=known["spread"], most_accelerators=known["most_accelerators"]
    )


@functools.cache
def shipped() -> Mapping[str, Mapping[str, Any]]:
    """The constants that come with Megalith, by generation."""
    with resources.as_file(resources.files("megalith.planning") / "constants" / "published.json") as path:
        return read_constants(path)


MEND = "Pass a file that `plan calibrate -o` wrote."


def read_constants(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The sets in a file that `calibrate` wrote, by generation. Raises InputError where it is not such a file."""
    try:
        sets = read_json(path, mend=MEND)["sets"]
        for one in sets:
            _check(one)
        return {one["generation"]: one for one in sets}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        why = f"the key {error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"this is not a file of constants: {why}.", where=str(path), mend=MEND) from error


def _check(record: Mapping[str, Any]) -> None:
    """Raise one of Python's errors where a set lacks something, or a figure is not one that `calibrate` writes."""
    if record["schema"] != SCHEMA or set(record["constants"]) != set(SHARED_SPREADS):
        raise ValueError("it is of another version")
    for stack in ("", *record["stacks"]):
        known = _of_set(record, stack)
        wrong = [name for name in (*SHARED_SPREADS, "stack") if not 0 < getattr(known, name) < math.inf]
        if wrong or not 0 <= known.spread < math.inf or not 0 < known.coverage < 1:
            raise ValueError(
                f"{wrong[0] if wrong else 'spread or coverage'} of {stack or 'a set'} is not such a figure"
            )
    if not record["fitted"] or any("why" not in entry for entry in record["held_out"].values()):
        raise ValueError("it does not say what was fitted, and what was held out and why")
