"""A contestant's answer: seconds of CPU time, its own and its children's, on one line of JSON."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

ENOUGH_SECONDS = 2.0


def timed(work: Callable[[], Any]) -> dict[str, Any]:
    """Do the work, if it is short some times over; least CPU seconds, least elapsed seconds, and what it gave."""
    runs: list[tuple[float, float]] = []
    while True:
        before, begun = _cpu_seconds(), time.perf_counter()
        result = work()
        runs.append((_cpu_seconds() - before, time.perf_counter() - begun))
        if len(runs) == 5 or sum(cpu for cpu, _ in runs) > ENOUGH_SECONDS:
            cpu_seconds, seconds = map(min, zip(*runs, strict=True))
            return {"cpu_seconds": cpu_seconds, "seconds": seconds, "result": result}


def tell(found: dict[str, Any], *packages: str) -> None:
    """Print the last line, with the versions of these packages and of Python."""
    versions = {"python": sys.version.split()[0]}
    for name in packages:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "missing"
    sys.stdout.flush()
    os.write(1, ("\n" + json.dumps({**found, "versions": versions}) + "\n").encode())


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
