"""Where a task's official file lies below the directory of benchmark data."""

import os
from dataclasses import dataclass
from pathlib import Path

from megalith.errors import InputError
from megalith.input_files import expand


@dataclass(frozen=True)
class DataFile:
    """A file or directory under any of its usual names, plain or gzipped."""

    names: tuple[str, ...]
    """Paths below the data directory, the preferred first; each is also found in the directory itself. Or one whole
    path."""
    origin: str
    """Where the file can be had."""

    def find(self, directory: Path | None) -> Path:
        """Return the file. Raises InputError where it is missing; the error names it, its origin and the setting."""
        if directory is None and not Path(self.names[0]).is_absolute():
            raise InputError(
                f"{self.names[0]} is needed, and no directory of benchmark data is named.",
                where="evaluate.data",
                mend=f"Set it to a directory that has the file, which can be had from {self.origin}.",
            )
        found = self.find_optional(directory)
        if found is None and Path(self.names[0]).is_absolute():
            raise InputError(f"this file is missing; {self.origin}.", where=self.names[0])
        if found is None:
            others = f" (or {', '.join(self.names[1:])})" if self.names[1:] else ""
            raise InputError(
                f"the file {self.names[0]}{others} is missing.",
                where=str(directory),
                mend=f"Put it there from {self.origin}, or set evaluate.data to the directory that has it.",
            )
        return found

    def find_optional(self, directory: Path | None) -> Path | None:
        """Return the file, or None where it is missing."""
        candidates = []
        for name in self.names:
            if Path(name).is_absolute():
                candidates.append(Path(name))
            elif directory is not None:
                flat = Path(name).name
                candidates += [directory / place for place in (name, f"{name}.gz", flat, f"{flat}.gz")]
        return next((path for path in candidates if path.exists()), None)


def data_directory(named: str | None, where: str) -> Path | None:
    """The directory of official files that a setting names, else the environment's; None where neither does."""
    if named is None:
        root = os.environ.get("MEGALITH_DATA")
        return Path(root) / "benchmarks" if root else None
    directory = expand(Path(named), where=where)
    if not directory.is_dir():
        raise InputError(
            "this directory is missing.", where=f"{where}: {directory}", mend=f"Set {where} to one that is there."
        )
    return directory
