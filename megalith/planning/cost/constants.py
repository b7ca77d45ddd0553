"""What a program reaches of a datasheet: the calibrated constants, their priors, and the files that hold them.

A constants file has one set for a generation of accelerators and a multiplier for each software stack; `calibrate`
writes it and says in it what was fitted and what was held out. Where nothing was calibrated, the priors stand.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from megalith.errors import InputError
from megalith.planning.job import Job

SCHEMA = 1
COVERAGE = 0.8  # what share of measurements an interval is to hold
STACK_PRIOR = 0.12  # log-normal spread of a stack's multiplier around 1
PRIOR_SPREAD = 0.18  # log error of a prediction by priors alone: H100 rows under A100's efficiencies


@dataclass(frozen=True)
class Constants:
    """Fractions of the datasheet, and times, of one generation of accelerators under one software stack."""

    gemm: float = 0.76
    """Of the peak, that a large product reaches."""
    gemm_half_depth: float = 146.0
    """The inner dimension at which a product reaches half of that."""
    quantisation: float = 0.575
    """Exponent on the share of tiles and waves that do useful work: below 1, libraries split what is left."""
    fused_attention: float = 0.45
    """Of the peak, that the forward of a fused attention reaches."""
    memory: float = 0.8
    """Of the memory's bandwidth, that norms, activations, residuals and softmax reach."""
    node_link: float = 0.72
    """Of the rate inside a node, that collectives reach."""
    network: float = 0.7
    """Of the rate between nodes, that collectives and sends reach."""
    gradient_network: float = 0.4
    """Of the network's rate, that the one reduction of all gradients at the end of a step reaches."""
    straggling: float = 0.008
    """What waiting for the slowest adds, for each doubling of the nodes."""
    launch_seconds: float = 70e-6
    """Host time of a layer's forward, once for the forward and twice for the backward."""
    stack: float = 1.0
    """Time of computation under this software, as a multiple."""
    spread: float = PRIOR_SPREAD
    """Standard deviation of log(measured / predicted) for rows held out."""
    coverage: float = COVERAGE
    """What share of measurements the interval holds."""
    most_accelerators: int = 0
    """The largest job among what was fitted; 0 where nothing was."""
    source: str = field(default="priors", compare=False)


PRIOR_SPREADS: Mapping[str, float] = {
    "gemm": 0.06,
    "gemm_half_depth": 0.35,
    "quantisation": 0.4,
    "fused_attention": 0.35,
    "memory": 0.35,
    "node_link": 0.12,
    "network": 0.3,
    "gradient_network": 0.6,
    "straggling": 0.5,
    "launch_seconds": 0.5,
}
"""The fitted constants and the log-normal spread of their priors."""

UNITS: Mapping[str, str] = {
    "gemm": "of peak",
    "gemm_half_depth": "elements",
    "quantisation": "exponent",
    "fused_attention": "of peak",
    "memory": "of bandwidth",
    "node_link": "of rate",
    "network": "of rate",
    "gradient_network": "of network",
    "straggling": "per doubling of nodes",
    "launch_seconds": "seconds",
}

PRIORS: Mapping[str, Constants] = {
    "v100": Constants(gemm=0.72, network=0.6),
    "a100": Constants(),
    "h100": Constants(gemm=0.68, fused_attention=0.42, gradient_network=0.6, launch_seconds=55e-6),
    "b200": Constants(gemm=0.66, fused_attention=0.4, gradient_network=0.6, launch_seconds=50e-6),
    "mi300x": Constants(gemm=0.48, fused_attention=0.3, node_link=0.6, gradient_network=0.6),
    "local": Constants(gemm=0.8, gemm_half_depth=1.0, memory=0.7),
}


def constants_for(job: Job, files: Mapping[str, Mapping[str, Any]] | None = None) -> Constants:
    """The constants for the job's accelerator and software: of `files` (`read_constants`), else the shipped ones.

    Where nothing was calibrated, the priors stand; they and their spread are in the sets' place.
    """
    facts = job.cluster.facts
    return of_generation(facts.generation if facts else "local", job.stack, shipped() if files is None else files)


def of_generation(generation: str, stack: str, files: Mapping[str, Mapping[str, Any]]) -> Constants:
    """The constants in `files` (by generation) for a stack; a stack that was not seen gets a multiplier of 1."""
    return _of_file(generation, stack, _Frozen(files))


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
    prior = PRIORS.get(generation, PRIORS["a100"])
    record = frozen.files.get(generation)
    if record is None:
        return prior
    values = {name: entry["value"] for name, entry in record["constants"].items()}
    known = record["stacks"].get(stack)
    residuals = record["residuals"]
    return replace(
        prior,
        **values,
        stack=known["multiplier"] if known else 1.0,
        spread=(known or {}).get("spread") or residuals["spread"] + (0.0 if known else STACK_PRIOR),
        coverage=residuals["coverage"],
        most_accelerators=(known or {}).get("most_accelerators", record["most_accelerators"]),
        source=record["name"],
    )


@functools.cache
def shipped() -> Mapping[str, Mapping[str, Any]]:
    """The constants that come with Megalith, by generation."""
    with resources.as_file(resources.files("megalith.planning") / "constants" / "published.json") as path:
        return read_constants(path) if path.is_file() else {}


def read_constants(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The sets in a file that `calibrate` wrote, by generation. Raises InputError where it is none."""
    try:
        record = json.loads(path.read_text())
        sets = record.get("sets", [record])
        for one in sets:
            if one["schema"] != SCHEMA or not {entry.name for entry in fields(Constants)} >= set(one["constants"]):
                raise ValueError("of another version")
            one["stacks"], one["residuals"]["spread"]
        return {one["generation"]: one for one in sets}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"this is no file of constants: {error}.", where=str(path), mend="Give what `plan calibrate -o` wrote."
        ) from error
