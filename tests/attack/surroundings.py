"""Hostile surroundings: environments, limits, and places that are not what they seem, tried with real processes."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.attack.cases import Found, judge
from tests.attack.command import Ended
from tests.attack.materials import Materials

PART = "surroundings"
WALL_SECONDS = 300
MEGALITH = "from megalith.cli import main; main()"
WHOLE = "{recipe} --source {corpus} --output out"


@dataclass(frozen=True)
class Try:
    """One command line of the shell, where `$M` is the command, and how its surroundings differ."""

    kind: str
    line: str
    environment: Mapping[str, str | None] = field(default_factory=dict)
    clean: bool = False


def _tries() -> list[Try]:
    made: list[Try] = []
    verbs = (
        "$M recipe list",
        "$M recipe show quickstart",
        "$M plan budget --flops 1e20",
        "$M report {recipe} --output {base}-copy",
        "$M generate {recipe} --output {base} --tokens 3 --prompt 'a é 中'",
        "$M curate {recipe} --source {corpus} --output out",
    )
    environments: dict[str, dict[str, str | None]] = {
        "LC_ALL=C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        "ASCII terminal": {"PYTHONIOENCODING": "ascii"},
        "no HOME": {"HOME": None},
        "HOME missing": {"HOME": "/nonexistent"},
        "TMPDIR missing": {"TMPDIR": "/nonexistent"},
        "COLUMNS=1": {"COLUMNS": "1", "LINES": "1"},
        "dumb terminal": {"TERM": "dumb", "NO_COLOR": "1"},
        "no PATH": {"PATH": ""},
        "strict warnings": {"PYTHONWARNINGS": "default"},
        "threads": {"OMP_NUM_THREADS": "99999", "MKL_NUM_THREADS": "0"},
        "threads of no number": {"OMP_NUM_THREADS": "x"},
        "RANK of no number": {"RANK": "x", "WORLD_SIZE": "y"},
        "SLURM of no number": {"SLURM_PROCID": "x", "SLURM_NTASKS": "y"},
        "proxy": {"https_proxy": "http://127.0.0.1:1", "http_proxy": "x"},
    }
    for name, environment in environments.items():
        made += [Try(f"environment: {name}", verb, environment) for verb in verbs]
        made.append(Try(f"environment: {name}", f"$M train {WHOLE}", environment))
    made += [Try("environment: none", verb, clean=True) for verb in verbs]
    for limit in ("-n 12", "-n 20", "-n 40", "-f 1", "-f 100", "-v 1000000", "-v 4000000", "-s 100", "-u 40", "-t 1"):
        made += [Try(f"ulimit {limit}", f"ulimit {limit}; {verb}") for verb in (*verbs, f"$M tokenize {WHOLE}")]
    outputs = {
        "a file": "touch out",
        "a loop": "ln -s out out",
        "dangling": "ln -s nowhere/x out",
        "read-only": "mkdir -p out; chmod 555 out",
        "below a file": "touch f; ln -s f/out out",
        "a device": "ln -s /dev/null out",
        "full": "ln -s /dev/full out",
        "a lock directory": "mkdir -p out/.lock",
        "a lock loop": "mkdir out; ln -s .lock out/.lock",
        "a stage file": "mkdir out; touch out/curate-documents out/tokenize out/train out/evaluate",
        "a partial file": "mkdir out; touch out/.curate-documents.partial out/.tokenize.partial out/.train.partial",
        "a manifest directory": "mkdir -p out/curate-documents/manifest.json out/tokenize/manifest.json",
        "a manifest fifo": "mkdir -p out/curate-documents; mkfifo out/curate-documents/manifest.json",
    }
    for name, before in outputs.items():
        made += [
            Try(f"output: {name}", f"{before}; $M {verb} {WHOLE}")
            for verb in ("curate", "tokenize", "train", "evaluate", "run")
        ]
        made += [Try(f"output: {name}", f"{before}; $M report {{recipe}} --output out")]
        made += [Try(f"output: {name}", f"{before}; $M card {{base}}/curate --output out")]
        made += [Try(f"output: {name}", f"{before}; $M plan timeline gpt2-8.3b --output out")]
    recipes = (
        "/dev/null",
        "/dev/zero",
        "/dev/urandom",
        "fifo",
        "loop.yaml",
        "dangling.yaml",
        "/proc/self/mem",
        "big",
        ".",
    )
    before = "mkfifo fifo; ln -s loop.yaml loop.yaml; ln -s x dangling.yaml; truncate -s 5G big"
    for recipe in recipes:
        for verb in ("recipe show", "curate", "plan layout", "generate", "blend"):
            made.append(Try("recipe: strange file", f"{before}; $M {verb} {recipe}"))
    sources = (
        *recipes[:-1],
        "fifo.jsonl",
        "zero.jsonl",
        "random.txt",
        "null.warc",
        "big.jsonl",
        "loops",
        "mem.parquet",
    )
    before += (
        "; mkfifo fifo.jsonl; ln -s /dev/zero zero.jsonl; ln -s /dev/urandom random.txt; ln -s /dev/null null.warc"
    )
    before += "; truncate -s 3G big.jsonl; mkdir loops; ln -s .. loops/up; ln -s loops loops/me"
    before += "; ln -s /proc/self/mem mem.parquet"
    for source in sources:
        made.append(Try("source: strange file", f"{before}; $M curate {{recipe}} --source {source} --output out"))
    for table in ("/dev/zero", "/dev/urandom", "fifo", "big", "loop.yaml"):
        for verb in (
            "plan validate",
            "scaling fit",
            "plan calibrate",
            "card",
            "verify",
            "plan layout gpt2-8.3b --constants",
        ):
            made.append(Try("table: strange file", f"{before}; $M {verb} {table}"))
    for verb in (*verbs, f"$M tokenize {WHOLE}", "$M --help", "$M plan layout gpt2-8.3b"):
        made.append(Try("standard output: closed", f"{verb} >&-"))
        made.append(Try("standard output: full", f"{verb} > /dev/full"))
        made.append(Try("standard error: closed", f"{verb} 2>&-"))
        made.append(Try("standard output: a reader that leaves", f"{verb} | true"))
    return made


class Surroundings:
    """The cases of this part."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        self.tries = _tries()

    def __len__(self) -> int:
        return len(self.tries)

    def __call__(self, number: int, dice: random.Random, room: Path) -> Found:
        one = self.tries[number]
        ended = self._run(one, room)
        verdict, detail = judge(ended)
        # What cannot be written cannot be read back; an exit code without a sentence is all there can be.
        silent = one.kind in ("standard error: closed", "standard output: full", "standard output: closed")
        if silent and verdict in ("wrong", "traceback") and "Traceback" not in ended.said and ended.code in (0, 1, 2):
            verdict, detail = "refused", ""
        if one.kind.startswith("ulimit -t") and ended.code in (-9, -24, 137, 152):
            verdict, detail = "refused", ""
        if "a reader that leaves" in one.kind and ended.code == 1 and "Traceback" not in ended.said:
            verdict, detail = "refused", ""
        for path in room.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        return Found(PART, one.kind, number, verdict, f"{one.line}: {detail}" if detail else "", (one.line,))

    def _run(self, one: Try, room: Path) -> Ended:
        line = one.line.replace("$M", f"'{sys.executable}' -c '{MEGALITH}'")
        line = line.replace("{recipe}", str(self.materials.recipe)).replace("{corpus}", str(self.materials.corpus))
        line = line.replace("{base}-copy", "copy").replace("{base}", str(self.materials.base))
        (room / "tmp").mkdir()
        repository = str(Path(__file__).resolve().parents[2])
        environment = {} if one.clean else {**os.environ, "TMPDIR": str(room / "tmp")}
        for name, value in {"PYTHONPATH": repository, **one.environment}.items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
        start = time.monotonic()
        with (room / ".err").open("wb") as err, (room / ".out").open("wb") as out:
            shell = subprocess.Popen(
                ["/bin/bash", "-c", f"set -o pipefail; {line}"], cwd=room, env=environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip
            try:
                code, hung = shell.wait(WALL_SECONDS), False
            except subprocess.TimeoutExpired:
                os.killpg(shell.pid, 9)
                code, hung = shell.wait(), True
        read = {name: (room / name).read_text(encoding="utf-8", errors="replace") for name in (".err", ".out")}
        return Ended(code, read[".out"][-20_000:], read[".err"][-20_000:], hung, False, 0, time.monotonic() - start, ())
