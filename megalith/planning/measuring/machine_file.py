"""The file in which a measured machine is kept: blocks, messages, pipelines and plain rates, in seconds."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from megalith.artifacts import Workspace
from megalith.input_files import read_model
from megalith.planning.measuring.block_settings import Setting
from megalith.recipe import ModelConfig


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Block(Setting):
    """One block under one setting; the pairs are at the table's two depths."""

    forward: tuple[float, float]
    backward: tuple[float, float]
    update: tuple[float, float]
    """Norm, clipping, optimizer, publishing the masters and zeroing the gradients."""
    read: float
    """Seconds of reading one micro-batch's samples."""
    embed: float | None
    unembed: float | None
    """The embedding's own forward and backward; None where ZeRO shards it."""
    spread: float
    """Half the distance between the quartiles of forward and backward together, relative to their median."""

    @property
    def setting(self) -> Setting:
        return Setting(**self.model_dump(include=set(Setting.model_fields)))


class Message(_Row):
    """One message of a group, while as many such groups as the processes make send theirs."""

    collective: Literal["all_reduce", "send"]
    group_size: int
    processes: int
    bytes: int
    seconds: float


class Runner(_Row):
    """Seconds of a pipeline's runner for each micro-batch of a rank, beyond the stage's own work."""

    pipeline: int
    processes: int
    seconds: float


class Correction(_Row):
    """Measured over predicted step time of runs on this machine."""

    factor: float = Field(gt=0)
    interval: tuple[float, float]
    """The prediction interval of a next run's ratio, at the coverage stated."""
    coverage: float
    runs: int


class BlockTable(_Row):
    """This machine, for models of one width."""

    schema_version: Literal[1, 2] = 2
    machine: dict[str, Any]
    model: ModelConfig
    """At one layer: the depth is left open."""
    depths: tuple[int, int]
    blocks: list[Block]
    messages: list[Message] = []
    runners: list[Runner] = []
    rates: dict[str, float] = {}
    """FLOP/s of products by type and shape, bytes copied a second, seconds of an operation on one number."""
    correction: Correction | None = None

    @property
    def cores(self) -> int:
        return int(self.machine["cores"])


def read_table(path: Path) -> BlockTable:
    """The table at `path`. Raises InputError where there is none."""
    return read_model(path, BlockTable, mend="Measure this machine: megalith plan calibrate --measure -o FILE.")


def write_table(table: BlockTable, path: Path) -> None:
    """Write the table to `path` as JSON, whole or not at all; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Workspace(path.parent).file(path.name) as file:
        file.write_text(table.model_dump_json(indent=1) + "\n", encoding="utf-8")
