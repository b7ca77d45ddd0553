"""`python -m tests.attack`: run the attack, print the table, write the figures; ends with 1 where anything failed."""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.attack.arguments import Arguments
from tests.attack.cases import Found, failures, table, write_result
from tests.attack.damage import Damage
from tests.attack.doors import Doors
from tests.attack.kills import Kills
from tests.attack.materials import Materials
from tests.attack.pool import Try, attempt, attempt_all, preload
from tests.attack.recipes import Overrides, Recipes
from tests.attack.sources import Sources
from tests.attack.surroundings import Surroundings
from tests.attack.tables import Tables

PARTS: dict[str, tuple[Callable[[Materials], Try], int | None]] = {
    "recipes": (Recipes, 2200),
    "overrides": (Overrides, 2200),
    "arguments": (Arguments, 460),
    "tables": (Tables, 400),
    "sources": (Sources, 160),
    "doors": (Doors, 160),
    "surroundings": (Surroundings, None),
    "kills": (Kills, 72),
    "damage": (Damage, None),
}
"""Each part with its number of cases; None where the part has so many as it has."""
SHARES = {"surroundings": 0.25}
"""Cases of a part that has more of them than minutes: the seed says which."""
WITH_EXPEDITION = ("tables", "arguments", "doors", "kills", "damage", "surroundings")
RESULT = Path("benchmarks/results/attack.json")


def main() -> int:
    options = _options()
    work = Path(options.work or tempfile.mkdtemp(prefix="attack-")).resolve()
    os.environ["XDG_CACHE_HOME"] = str(work / "cache")  # one for all cases: what it remembers is attacked too
    materials = Materials(work / "materials")
    materials.make_inputs()
    parts = [options.only] if options.only else list(PARTS)
    start = time.monotonic()
    _say("making ready")
    preload([["recipe", "show", "quickstart"]], materials.home)
    found: list[Found] = []
    for part in parts:
        if part in WITH_EXPEDITION:
            materials.make_expeditions()
        _preload(part, materials)
        one, count = PARTS[part]
        cases = one(materials)
        whole = count if count is not None else len(cases)  # type: ignore[arg-type]  # a part without a number has a length
        numbers = range(options.first, options.first + max(1, round(whole * options.scale)))
        if options.case is not None:
            found.append(attempt(part, cases, options.seed, options.case, work, keep=options.keep))
            _say(f"{found[-1].verdict}: {found[-1].argv} {found[-1].detail}")
            continue
        if count is None:
            numbers = _spread(whole, round(len(numbers) * SHARES.get(part, 1)), options.seed)
        _say(f"{part}: {len(numbers)} cases")
        for told in attempt_all(part, cases, options.seed, numbers, work, jobs=options.jobs, keep=options.keep):
            found.append(told)
            if told.verdict in ("wrong", "traceback", "hang"):
                _say(f"  {told.verdict}: {told.kind}: {told.detail}\n    {told.again(options.seed)}")
    _say("\n" + table(found))
    bad = failures(found)
    killed = sum(one.killed for one in found)
    _say(f"{len(found)} attempts, {killed} processes killed, {len(bad)} failures, {time.monotonic() - start:.0f} s")
    if options.case is None:
        about: dict[str, object] = {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "commit": _commit(),
        }
        whole_run = not options.only and options.scale >= 1
        write_result(
            Path(options.result or (RESULT if whole_run else work / "attack.json")), found, options.seed, about
        )
    if options.work is None and not options.keep:
        shutil.rmtree(work, ignore_errors=True)
    return 1 if bad else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description="Attack Megalith; see docs/attack.md.")
    parser.add_argument("--only", choices=sorted(PARTS), help="one part alone")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--case", type=int, help="one case alone, of the part named by --only")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the cases")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", help="directory that is kept, with the finished expeditions")
    parser.add_argument("--keep", action="store_true", help="keep each case's directory")
    parser.add_argument(
        "--result", help=f"file whose figures of these parts are replaced; default {RESULT} for a whole run"
    )
    options = parser.parse_args()
    if options.case is not None and options.only is None:
        parser.error("--case wants --only")
    return options


def _preload(part: str, materials: Materials) -> None:
    """Import once what the forks of a part would import each."""
    if part in ("sources", "kills", "damage"):
        room = materials.home / "preload"
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir()
        preload([materials.argv("curate", room / "out")], room)
    if part in ("kills", "damage", "arguments", "tables", "doors"):
        preload([materials.argv("generate", materials.base, "--tokens", "1")], materials.home)
    if part in ("recipes", "overrides", "arguments", "tables"):
        preload(
            [["plan", "layout", "gpt2-8.3b", "--json"], ["plan", "timeline", "gpt2-8.3b", "--json"]], materials.home
        )


def _spread(whole: int, wanted: int, seed: int) -> list[int]:
    """So many of the numbers below `whole`, from all over."""
    import random

    numbers = list(range(whole))
    if wanted < whole:
        numbers = sorted(random.Random(seed).sample(numbers, wanted))
    return numbers


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
