"""Damage: every file of every artifact is changed, one at a time, and a verb that reads it is run.

It must refuse, naming the file or its artifact, or make the file again with the right digest. What it must never do is
use the damaged file under the old digest.
"""

import json
import os
import random
import shutil
from pathlib import Path

from tests.attack.cases import Found, Verdict, judge
from tests.attack.command import Ended, Kill, run
from tests.attack.materials import ARTIFACTS, Materials, digests

PART = "damage"
WAYS = ("flip", "flip, same time", "cut short", "zeros", "another run's", "emptied")
READERS = {
    "crawl": ("verify", "curate"),
    "curate-documents": ("verify", "run", "curate"),
    "curate": ("verify", "run", "tokenize", "evaluate"),
    "tokenize": ("verify", "run", "train", "evaluate"),
    "plan": ("verify", "run", "train"),
    "train": ("verify", "run", "generate", "evaluate", "audit"),
    "evaluate": ("verify", "run"),
    "audit": ("verify", "run"),
    "expedition.json": ("report", "run"),
    "train.partial": ("train",),
}
"""The verbs that read an artifact (or a file)."""
UNREAD = {
    "generate": ("train/history.json", "train/checkpoints/"),
    "audit": ("train/history.json", "train/checkpoints/"),
    "evaluate": ("train/history.json", "train/checkpoints/", "curate/ngrams", "curate/samples", "curate/details"),
    "tokenize": ("curate/tasks", "curate/ngrams", "curate/samples", "curate/details"),
    "train": (),
}
"""Files that a verb has no need to look at, so that it may do its work beside damage."""
CPU_SECONDS = 300
HISTORY = ("steps.jsonl", "validation.jsonl")
"""Files beside checkpoints without which a run goes on, and says so."""


class Damage:
    """The cases of this part: one for each file and way of damage, the verbs in turn."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        self.half = materials.home / "half-trained"
        self._train_by_half()
        places = [materials.base, materials.home / "crawled", self.half]
        self.cases = [
            (home, file.relative_to(home), way)
            for home in places
            for file in sorted(home.rglob("*"))
            if file.is_file() and self._counts(home, file.relative_to(home))
            for way in WAYS
            if file.stat().st_size and not (way == "another run's" and self._same(home, file))
        ]

    def _same(self, home: Path, file: Path) -> bool:
        """Whether another run has the very same file; of manifests, those of the same key and digest.

        Two such manifests differ in what a log says (seconds, a worker's number), and each is the other's right.
        """
        other = self.materials.other / file.relative_to(home)
        if not other.is_file():
            return False
        if file.name != "manifest.json":
            return other.read_bytes() == file.read_bytes()
        mine, theirs = (json.loads(manifest.read_bytes()) for manifest in (file, other))
        return all(mine.get(field) == theirs.get(field) for field in ("key", "digest", "files"))

    def _counts(self, home: Path, file: Path) -> bool:
        if home == self.half:
            return file.parts[0] == ".train.partial" and "checkpoints" in file.parts
        if home == self.materials.base:
            return file.parts[0] in ARTIFACTS or str(file) == "expedition.json"
        return file.parts[0] == "crawl"

    def _train_by_half(self) -> None:
        """An expedition killed in the midst of training, with a checkpoint."""
        for step in (20, 15, 10, 25):
            found = list(self.half.glob(".train.partial/checkpoints/step-*"))
            if found and not (self.half / "train").exists():
                return
            shutil.rmtree(self.half, ignore_errors=True)
            shutil.copytree(self.materials.base, self.half, ignore=shutil.ignore_patterns(*ARTIFACTS[4:], ".lock"))
            kill = Kill(appears=f"{self.half.name}/.train.partial/checkpoints/step-*{step}/state.json")
            run(self.materials.argv("train", self.half), self.materials.home, kill=kill, cpu_seconds=CPU_SECONDS)
        raise RuntimeError("no kill left a checkpoint of a half-made train")

    def __len__(self) -> int:
        return len(self.cases)

    def __call__(self, number: int, dice: random.Random, room: Path) -> Found:
        home, file, way = self.cases[number]
        artifact = "train.partial" if home == self.half else file.parts[0]
        verb = dice.choice(READERS[artifact])
        kind = f"{artifact}, {way}"
        out = room / "out"
        shutil.copytree(home, out)
        target = out / file
        whole = target.read_bytes()
        if not damage(target, way, dice, self.materials.other / file):
            return Found(PART, kind, number, "right", "nothing to change")
        damaged = target.read_bytes()
        if verb in ARTIFACTS:
            for later in ARTIFACTS[ARTIFACTS.index(verb) :]:
                if later != artifact:
                    shutil.rmtree(out / later, ignore_errors=True)
        argv = ["verify", str(out)] if verb == "verify" else self._argv(verb, artifact, out)
        ended = run(argv, room, cpu_seconds=CPU_SECONDS, wall_seconds=900)
        verdict, detail = self._judge(ended, verb, file, out, whole, damaged)
        return Found(PART, kind, number, verdict, f"{verb}, {file}: {detail}" if detail else "", tuple(argv))

    def _argv(self, verb: str, artifact: str, out: Path) -> list[str]:
        if verb == "generate":
            return self.materials.argv(verb, out, "--tokens", "5", "--temperature", "0")
        if artifact == "crawl":
            return [verb, str(self.materials.recipe), "--output", str(out)]
        return self.materials.argv(verb, out)

    def _judge(
        self, ended: Ended, verb: str, file: Path, out: Path, whole: bytes, damaged: bytes
    ) -> tuple[Verdict, str]:
        verdict, detail = judge(ended)
        if verdict == "refused":
            named = any(part in detail for part in (file.name, *file.parts[:1]))
            return ("refused", "") if named else ("wrong", f"refused without the file's name: {detail}")
        if verdict != "right":
            return verdict, detail
        target = out / file
        now = target.read_bytes() if target.is_file() else b""
        if file.name == "expedition.json":
            return ("right", "") if now != damaged else ("wrong", "used in silence")
        if verb == "verify":
            return "wrong", "the damage is not seen"
        want = digests(self.materials.base)
        other = [name for name, digest in digests(out).items() if want.get(name, digest) != digest]
        if other == ["train"] and file.name in HISTORY:  # told, and then it begins later: the weights are what counts
            weights = "train/model/model.safetensors"
            same = (out / weights).read_bytes() == (self.materials.base / weights).read_bytes()
            told = "the history up to" in ended.err and "is missing or damaged" in ended.err
            return ("right", "") if same and told else ("wrong", "another model, or a history that is lost in silence")
        if other:
            return "wrong", f"another digest: {', '.join(other)}"
        if file.parts[0] == ".train.partial":  # gone: train stands, with the right digest
            return "right", ""
        if now == damaged and not str(file).startswith(UNREAD.get(verb, ())) and "/logs/" not in str(file):
            return "wrong", "used in silence"
        if now not in (damaged, whole) and file.name != "manifest.json" and "/logs/" not in str(file):
            return "wrong", "made again, and otherwise"
        return "right", ""


def damage(target: Path, way: str, dice: random.Random, other: Path) -> bool:
    """Change a file in one way; False where that would change nothing."""
    before, times = target.read_bytes(), target.stat()
    if way.startswith("flip"):
        if not before:
            return False
        changed = bytearray(before)
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        after = bytes(changed)
    elif way == "cut short":
        after = before[: dice.randrange(max(len(before), 1))]
    elif way == "zeros":
        start = dice.randrange(max(len(before), 1))
        stop = min(len(before), start + dice.choice((1, 16, 4096)))
        after = before[:start] + bytes(stop - start) + before[stop:]
    elif way == "another run's":
        after = other.read_bytes() if other.is_file() else before[::-1]
    else:
        after = b""
    if after == before:
        return False
    target.write_bytes(after)
    if way == "flip, same time":
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    return True
