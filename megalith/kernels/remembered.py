"""The choice of kernels for this processor: measured once in a process of its own, and remembered for the user.

The file is found by all that the measurement depends on (processor, caps, torch, threads). Of processes that measure at
the same time the first to write is heeded by all, so that the choice of a machine never changes. A damaged file is
measured again and replaced. Each command measures for itself where nothing can be written, and on a busy machine, whose
other programs may have made every implementation slow.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

from megalith.errors import InputError
from megalith.kernels.choice import ALTERNATIVES, TORCH
from megalith.kernels.processor import caps, processor
from megalith.processes import SPINS

VARIABLE = "MEGALITH_KERNELS"
"""Set to `torch` or `megalith` it stands for all operations, and nothing is measured."""
_VERSION = 6  # of the kernels and of the contest; a new one is measured anew
_BUSY = 2.0  # programs for each core that wait to run or run, beyond which a measurement is not remembered
_PATIENCE_SECONDS = 120.0  # for a process that takes two seconds and the import of torch, on a busy machine


@cache
def choose(threads: int) -> dict[str, str]:
    """The implementation of each operation that suits this processor at this many threads.

    torch's own for all where the measurement fails or takes too long; neither that nor a busy machine's choice is
    remembered.
    """
    said = os.environ.get(VARIABLE)
    if said is not None:
        return _said(said)
    depends_on = {
        "processor": processor(),
        "caps": caps(),
        "torch": version("torch"),
        "threads": threads,
        "version": _VERSION,
    }
    name = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
    folder = _folder()
    file = None if folder is None else folder / f"kernels-{name}.json"
    if file is not None and (remembered := _read(file)) is not None:
        return remembered
    busy = os.getloadavg()[0] > _BUSY * (os.cpu_count() or 1)
    choice = _measure(threads)
    if choice is None:
        return dict.fromkeys(ALTERNATIVES, TORCH)
    if file is None or busy:
        return choice
    with contextlib.suppress(OSError):
        _write(file, json.dumps({"choice": choice, **depends_on}, indent=1))
    return _read(file) or choice


def _said(said: str) -> dict[str, str]:
    if said == TORCH:
        return dict.fromkeys(ALTERNATIVES, TORCH)
    if said == "megalith":
        return dict(ALTERNATIVES)
    raise InputError(
        f"{said[:80]!r} is not a choice of kernels.",
        where=f"the environment variable {VARIABLE}",
        mend="Set it to torch or megalith, or unset it to have the faster kernels measured.",
    )


def _folder() -> Path | None:
    """The user's cache directory of Megalith; None where the user has no home."""
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    with contextlib.suppress(RuntimeError):
        return (root if root.is_absolute() else Path.home() / ".cache") / "megalith"
    return None


def _read(file: Path) -> dict[str, str] | None:
    """The choice that stands in the file; None where it is missing, cannot be read or is not a choice."""
    try:
        choice = json.loads(file.read_text())["choice"]
        whole = {operation: choice[operation] for operation in ALTERNATIVES}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return whole if all(each in (TORCH, ALTERNATIVES[name]) for name, each in whole.items()) else None


def _measure(threads: int) -> dict[str, str] | None:
    """The choice by the contest; None where its process ends badly or does not end in time."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "megalith.kernels.contest", str(threads), str(os.getpid())],
            capture_output=True,
            text=True,
            check=True,
            timeout=_PATIENCE_SECONDS,
            env={
                "GOMP_SPINCOUNT": SPINS,  # as in training
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                "OMP_NUM_THREADS": str(threads),
            },
        )
        choice = json.loads(done.stdout.splitlines()[-1])
        return {operation: choice[operation] for operation in ALTERNATIVES}
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        return None


def _write(file: Path, text: str) -> None:
    """Write the file, unless a sound one stands there by now."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.stem}-") as temporary:
        temporary.write(text)
        temporary.flush()
        try:
            os.link(temporary.name, file)
        except FileExistsError:
            if _read(file) is None:
                file.unlink(missing_ok=True)
                os.link(temporary.name, file)
