"""Where a task's official file lies below the directory of benchmark data."""

from dataclasses import dataclass
from pathlib import Path

from megalith.errors import InputError


@dataclass(frozen=True)
class DataFile:
    """A file or directory under any of its usual names, plain or gzipped."""

    names: tuple[str, ...]
    """Paths below the data directory, the preferred first; each is also found in the directory itself."""
    origin: str
    """Where the file can be had."""

    def find(self, directory: Path | None) -> Path:
        """Return the file. Raises InputError where it is missing; the error names it, its origin and the setting."""
        if directory is None:
            raise InputError(
                f"{self.names[0]} is needed, and no directory of benchmark data is named.",
                where="evaluate.data",
                mend=f"Set it to a directory that has the file, which can be had from {self.origin}.",
            )
        found = self.find_optional(directory)
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
        if directory is None:
            return None
        candidates = [
            directory / place
            for name in self.names
            for place in dict.fromkeys((name, f"{name}.gz", Path(name).name, f"{Path(name).name}.gz"))
        ]
        return next((path for path in candidates if path.exists()), None)
