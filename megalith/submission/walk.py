"""The commands of a run, and what the jobs that run them need: the same for every scheduler."""

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from megalith.arithmetic import OPTIMIZER_BYTES, WEIGHT_BYTES

LEAST_LEAD_SECONDS, MOST_LEAD_SECONDS = 120, 3600
NODE_BYTES_PER_SECOND = 0.5e9  # that a node writes to shared storage, cautiously
_NAME = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True)
class Walk:
    """A planned run and the machines that it is planned for."""

    name: str
    recipe: Path
    """The recipe's file, with all overrides in it."""
    directory: Path
    """The expedition's, on storage that all nodes see."""
    working_directory: Path
    """Relative paths of the recipe are meant from here."""
    stages: Sequence[str]
    """Stages before training, in order: one process each."""
    nodes: int
    accelerators_per_node: int
    accelerator: str
    layout: str
    """In words."""
    parameters: int
    step_seconds: float
    sources: Sequence[str] = ()
    python: str = field(default=sys.executable)

    @property
    def ranks(self) -> int:
        return self.nodes * self.accelerators_per_node

    @property
    def lead_seconds(self) -> int:
        """How long before its time is up a job is told: for the step that is under way and a checkpoint."""
        of_a_node = self.parameters * (WEIGHT_BYTES + OPTIMIZER_BYTES) / self.nodes
        needed = 2 * self.step_seconds + of_a_node / NODE_BYTES_PER_SECOND
        return min(MOST_LEAD_SECONDS, max(LEAST_LEAD_SECONDS, 60 * math.ceil(needed / 60)))

    @property
    def finished_data(self) -> Path:
        """The file that stands once the data are made."""
        return self.directory / "tokenize" / "manifest.json"

    @property
    def label(self) -> str:
        """The name in letters, digits and hyphens."""
        return _NAME.sub("-", self.name.lower()).strip("-")[:40].strip("-")

    def verb(self, verb: str) -> list[str]:
        """A command of the run, without Python itself."""
        sources = [word for source in self.sources for word in ("--source", source)]
        return ["-m", "megalith", verb, str(self.recipe), "--output", str(self.directory), *sources]
