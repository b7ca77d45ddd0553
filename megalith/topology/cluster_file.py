"""A cluster as a YAML file: accelerator, node, network, price and power, checked in all its parts at once.

`cluster: FILE.yaml` in a recipe names such a file; those that come with Megalith (`topology/described`) go by their
names. Rates are as datasheets have them, of one direction. An accelerator that `accelerators` lists needs its name
alone. For another one the planner has the constants of the nearest generation, which nobody has held against it: its
intervals are wider, and a note says so. Nodes of several kinds are planned by the slowest of each figure, where the
file asks for it.
"""

import functools
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, ValidationError, model_validator

from megalith.errors import RecipeError
from megalith.input_files import read_text
from megalith.recipe.base import Dimension, Section
from megalith.recipe.explain import explain_all
from megalith.recipe.yaml_values import UnreadableError, read_yaml
from megalith.topology.accelerators import Accelerator, Generation, accelerator
from megalith.topology.clusters import LOCAL, Cluster, Tier

MOST_BYTES = 2**18
LIKE: dict[str, Generation] = {
    "volta": "v100",
    "ampere": "a100",
    "ada": "a100",
    "hopper": "h100",
    "blackwell": "b200",
    "cdna3": "mi300x",
    "other": "a100",
}
"""Whose constants stand for an architecture's: Ada has Ampere's tensor cores at a higher clock."""
USABLE = 0.97  # of the memory that a datasheet states, as torch finds it: 0.96 to 0.99 of the listed accelerators'
_PCIE_LATENCY = 5.7  # microseconds: NCCL's tuning table, a step of a ring, simple protocol, over PCIe
_MULTIPROCESSORS = 108


class Rates(Section):
    """Dense products with accumulation in fp32, 10^12 FLOPs a second at the boost clock."""

    bf16: PositiveFloat | None = None
    fp16: PositiveFloat | None = None
    fp32: PositiveFloat | None = None
    fp8: PositiveFloat | None = None

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if self.bf16 is None and self.fp16 is None:
            raise ValueError("neither bf16 nor fp16 is given, and training takes one of them: set its dense rate")
        return self


class AcceleratorSection(Section):
    """One kind of accelerator. All but the name may be left out for one that Megalith lists."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    generation: Literal["volta", "ampere", "ada", "hopper", "blackwell", "cdna3", "other"] = "other"
    memory_gb: PositiveFloat | None = None
    """By the datasheet, 10^9 bytes."""
    usable_memory_gib: PositiveFloat | None = None
    """As a program finds it, 2^30 bytes. Default: 97 % of `memory_gb`."""
    bandwidth_gb_per_second: PositiveFloat | None = None
    """The memory's."""
    tflops: Rates | None = None
    multiprocessors: Dimension | None = None
    """Streaming multiprocessors, or compute units."""
    tile: tuple[Dimension, Dimension] = (256, 128)
    """Rows and columns of a product's tile in the library's largest kernels."""
    watts: PositiveFloat | None = None
    """TDP."""

    @model_validator(mode="after")
    def _is_known_or_described(self) -> Self:
        if accelerator(self.name) is not None:
            return self
        missing = [name for name in ("memory_gb", "bandwidth_gb_per_second", "tflops", "watts")
                   if getattr(self, name) is None]  # fmt: skip
        if missing:
            raise ValueError(
                f"{self.name} is not an accelerator that Megalith lists, and {' and '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing: set what its datasheet says"
            )
        return self


class NodeSection(Section):
    """A node: its accelerators, and the links between them."""

    accelerators: Annotated[int, Field(gt=0, le=1024)]
    link: Annotated[str, Field(min_length=1, max_length=40)] = "pcie"
    link_gb_per_second: PositiveFloat | None = None
    """One accelerator's, in one direction. May be left out where a node has one accelerator."""
    link_latency_microseconds: PositiveFloat = _PCIE_LATENCY
    host_memory_gb: PositiveFloat | None = None
    """For all accelerators of the node: what an offloaded optimizer has."""
    watts: PositiveFloat | None = None
    """At most, of the whole node. Default: 1.8 times its accelerators' TDP, as a DGX H100's."""

    @model_validator(mode="after")
    def _has_links(self) -> Self:
        if self.accelerators > 1 and self.link_gb_per_second is None:
            raise ValueError("link_gb_per_second is missing: set the rate of one accelerator's link in one direction")
        return self


class TierSection(Section):
    """Switches of one level."""

    nodes: Dimension | None = None
    """Neighbouring nodes that it spans. Default: all, and then it is the last."""
    oversubscription: Annotated[float, Field(ge=1.0)] = 1.0
    """How many times more its nodes can send than it takes."""


class NetworkSection(Section):
    """The links between nodes."""

    name: Annotated[str, Field(min_length=1, max_length=40)] = "network"
    adapters: Dimension
    """In each node."""
    gigabits_per_second: PositiveFloat
    """One adapter's, in one direction."""
    latency_microseconds: PositiveFloat = 9.6
    """For one step of a ring. Default: NCCL's table for InfiniBand."""
    tiers: tuple[TierSection, ...] = (TierSection(),)

    @model_validator(mode="after")
    def _grow(self) -> Self:
        reach = [tier.nodes for tier in self.tiers]
        if not reach or reach[-1] is not None or None in reach[:-1] or sorted(reach[:-1]) != reach[:-1]:  # type: ignore[type-var]  # no None is left to sort
            raise ValueError("tiers go from the nearest to one without `nodes`, which spans all: order them so")
        return self


def _as_list(value: Any) -> Any:
    """One accelerator as a list of it, and a name as a section."""
    found = value if isinstance(value, list | tuple) else [value]
    return [{"name": one} if isinstance(one, str) else one for one in found]


class ClusterFile(Section):
    """The whole file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]
    about: str = ""
    sources: tuple[str, ...] = ()
    """Where the figures come from."""
    accelerator: Annotated[tuple[AcceleratorSection, ...], BeforeValidator(_as_list)]
    """A list of several is a cluster of mixed nodes; a name alone is one that Megalith lists."""
    mixed: Literal["refused", "slowest"] = "refused"
    node: NodeSection
    network: NetworkSection | None = None
    """May be left out where there is one node."""
    most_nodes: Annotated[int, Field(gt=0, le=1_000_000)] | None = None
    price_per_hour: PositiveFloat | None = None
    """For one accelerator."""
    pue: Annotated[float, Field(ge=1.0, le=5.0)] | None = None
    """Energy of the building for that of the machines. Default: Jean Zay's."""

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.name == LOCAL:
            raise ValueError("name is local, which is this machine: set another name")
        kinds = self.accelerator
        if not kinds:
            raise ValueError("accelerator is an empty list: set one")
        if len(kinds) > 1 and self.mixed == "refused":
            raise ValueError(
                f"its nodes are mixed ({', '.join(one.name for one in kinds)}): set mixed: slowest to plan as if each "
                "were the slowest in every figure, or describe one kind"
            )
        if self.network is None and (self.most_nodes or 1) > 1:
            raise ValueError(f"most_nodes is {self.most_nodes} and network is missing: set it, or most_nodes: 1")
        return self


def described_clusters() -> dict[str, Path]:
    """The files that come with Megalith, by the clusters' names."""
    folder = Path(str(resources.files("megalith"))) / "topology" / "described"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_cluster(path: Path) -> Cluster:
    """The cluster that a file describes, of one node. Raises InputError for a file that cannot be read, RecipeError
    with all that is wrong in one that can."""
    try:
        changed = path.stat().st_mtime_ns
    except OSError:
        changed = 0  # `read_text` says what is wrong
    return _read(path, changed)


@functools.lru_cache(maxsize=64)
def _read(path: Path, changed: int) -> Cluster:
    mend = f"Set a file like those of the clusters {', '.join(described_clusters())}."
    try:
        document = read_yaml(read_text(path, most=MOST_BYTES, mend=mend))
    except UnreadableError as error:
        place = str(path) if error.line is None else f"{path}:{error.line}"
        raise RecipeError(f"{error.what}.", where=place) from error
    if not isinstance(document.value, dict):
        raise RecipeError("a cluster's file is a mapping of sections.", where=str(path), mend=mend)
    try:
        file = ClusterFile.model_validate(document.value)
    except ValidationError as error:
        lines = {dotted: f"{path}:{line}" for dotted, line in document.lines.items()}
        raise explain_all(error, lines, str(path)) from error
    return cluster_of(file)


def cluster_of(file: ClusterFile) -> Cluster:
    """One node of the cluster, with all tiers of its network."""
    devices = [_device(one) for one in file.accelerator]
    usable = [_usable(one, device) for one, device in zip(file.accelerator, devices, strict=True)]
    device = functools.reduce(_slower, devices)
    node, network = file.node, file.network
    tiers = [Tier(node.link, 1, _scaled(node.link_gb_per_second, 1e9), node.link_latency_microseconds * 1e-6)]
    if network is None:
        tiers.append(Tier("network", None, None, None))
    else:
        rate = network.adapters * network.gigabits_per_second * 1e9 / 8 / node.accelerators
        tiers += [
            Tier(network.name, tier.nodes, rate / tier.oversubscription, network.latency_microseconds * 1e-6)
            for tier in network.tiers
        ]
    return Cluster(
        name=file.name,
        nodes=1,
        accelerators_per_node=node.accelerators,
        accelerator=device.name,
        memory_bytes=min(usable),
        peak_flops_per_second=device.peak("bf16"),
        tiers=tuple(tiers),
        most_nodes=1 if network is None else file.most_nodes,
        device=device,
        host_memory_bytes=_scaled(node.host_memory_gb, 1e9),
        price_per_hour=file.price_per_hour,
        node_watts=node.watts,
        pue=file.pue,
        notes=(*_assumed(file.accelerator), *_mixed(file)),
    )


def _device(section: AcceleratorSection) -> Accelerator:
    listed = accelerator(section.name)
    rates = {} if section.tflops is None else section.tflops.model_dump(exclude_none=True)
    peaks = {name: rate * 1e12 for name, rate in rates.items()}
    if listed is not None:
        return replace(
            listed,
            flops_per_second=MappingProxyType({**listed.flops_per_second, **peaks}),
            hbm_bytes=_scaled(section.memory_gb, 1e9) or listed.hbm_bytes,
            hbm_bytes_per_second=_scaled(section.bandwidth_gb_per_second, 1e9) or listed.hbm_bytes_per_second,
            multiprocessors=section.multiprocessors or listed.multiprocessors,
            tdp_watts=section.watts or listed.tdp_watts,
        )
    assert section.memory_gb and section.bandwidth_gb_per_second and section.watts  # the section's own check
    peaks.setdefault("fp16", peaks.get("bf16", 0.0))
    peaks.setdefault("fp32", peaks["fp16"] / 16)
    return Accelerator(
        section.name,
        LIKE[section.generation],
        MappingProxyType(peaks),
        section.memory_gb * 1e9,
        section.bandwidth_gb_per_second * 1e9,
        section.multiprocessors or _MULTIPROCESSORS,
        section.tile,
        section.watts,
        is_listed=False,
    )


def _usable(section: AcceleratorSection, device: Accelerator) -> float:
    return _scaled(section.usable_memory_gib, 2**30) or USABLE * device.hbm_bytes


def _slower(one: Accelerator, other: Accelerator) -> Accelerator:
    """An accelerator that is as slow as the slower in every figure."""
    common = set(one.flops_per_second) & set(other.flops_per_second)
    slow = min(one, other, key=lambda device: device.peak("bf16"))
    return replace(
        slow,
        name=f"{one.name}+{other.name}",
        flops_per_second=MappingProxyType(
            {name: min(one.flops_per_second[name], other.flops_per_second[name]) for name in sorted(common)}
        ),
        hbm_bytes=min(one.hbm_bytes, other.hbm_bytes),
        hbm_bytes_per_second=min(one.hbm_bytes_per_second, other.hbm_bytes_per_second),
        tdp_watts=max(one.tdp_watts, other.tdp_watts),
        is_listed=one.is_listed and other.is_listed,
    )


def _assumed(kinds: tuple[AcceleratorSection, ...]) -> list[str]:
    notes = []
    for one in kinds:
        if accelerator(one.name) is None:
            notes.append(
                f"no measured run is of {one.name}: the constants of {LIKE[one.generation].upper()} stand for it, and "
                "its intervals are wider"
            )
            if one.multiprocessors is None:
                notes.append(f"{one.name} is taken to have {_MULTIPROCESSORS} multiprocessors: its file says none")
    return notes


def _mixed(file: ClusterFile) -> list[str]:
    if len(file.accelerator) == 1:
        return []
    names = " and ".join(one.name for one in file.accelerator)
    return [f"nodes of {names} are planned as if each were the slowest of them in every figure"]


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value * unit


def as_yaml(values: dict[str, Any]) -> str:
    """A file's text from its sections; the keys are those of `ClusterFile`."""
    import yaml

    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
