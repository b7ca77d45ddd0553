"""Kills: each stage dies at a file operation or a moment, and the same command must then end with the same digests."""

import json
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.attack.cases import Found, Verdict, judge, leftovers
from tests.attack.command import Ended, Kill, run
from tests.attack.materials import ARTIFACTS, Materials, digests

PART = "kills"
STAGES = ("crawl", "curate", "tokenize", "plan", "train", "evaluate", "audit", "report", "run")
AFTER = {
    "crawl": ARTIFACTS,
    "curate": ARTIFACTS,
    "tokenize": ARTIFACTS[2:],
    "plan": ARTIFACTS[3:],
    "train": ARTIFACTS[4:],
    "evaluate": ARTIFACTS[5:],
    "audit": ARTIFACTS[6:],
    "report": (),
    "run": ARTIFACTS,
}
"""The artifacts that must not stand yet when a stage is to run. `plan` is run as the first half of `train`."""
OTHERS = {
    "curate": "curate.validation_share=0.12",
    "tokenize": "tokenize.training_bytes=20000",
    "evaluate": "evaluate.items=10",
    "audit": "audit.hans_examples=2",
    "train": "train.learning_rate=1e-3",
}
"""An override with which something else stands in a stage's place when it begins."""
KINDS = ("operation", "moment", "alone", "twice", "replacing", "mark")
MARKS = (".*.partial", ".*.partial/*", ".*.partial/manifest.json", ".*.old", "*/manifest.json", "*.aside-*")
CPU_SECONDS = 300


@dataclass(frozen=True)
class Whole:
    """A stage's unbroken run."""

    seconds: float
    operations: int
    digests: dict[str, str]


class Kills:
    """The cases of this part. Unbroken runs are measured first, so that kills fall within them."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        self.unbroken: dict[str, Whole] = {}
        known = materials.home / "unbroken.json"
        if known.is_file():
            self.unbroken = {stage: Whole(**one) for stage, one in json.loads(known.read_text()).items()}
            return
        for stage in STAGES:
            room = materials.home / f"unbroken-{stage}"
            shutil.rmtree(room, ignore_errors=True)
            ended = self._run(stage, self._begin(stage, room))
            if ended.code:
                raise RuntimeError(f"{stage} ended with {ended.code}: {ended.said[-2000:]}")
            self.unbroken[stage] = Whole(ended.seconds, ended.operations, digests(room / "out"))
            shutil.rmtree(room)
        known.write_text(json.dumps({stage: asdict(one) for stage, one in self.unbroken.items()}))

    def __call__(self, number: int, dice: random.Random, room: Path) -> Found:
        stage = STAGES[number % len(STAGES)]
        kind = KINDS[(number // len(STAGES)) % len(KINDS)]
        if kind == "replacing" and stage not in OTHERS:
            kind = dice.choice(("operation", "moment"))
        whole = self.unbroken[stage]
        self._begin(stage, room)
        before, more = None, ()
        if kind == "replacing":
            self._run(stage, room, OTHERS[stage])
            before = digests(room / "out")[stage]
            more = ("--fresh",) if stage == "train" else ()
        killed = False
        for _ in range(2 if kind == "twice" else 1):
            kill = self._kill(kind, stage, whole, dice)
            ended = self._run(stage, room, *more, kill=kill)
            killed |= ended.killed
            if not ended.killed and ended.code not in (0, 2):
                verdict, detail = judge(ended)
                return Found(PART, f"{stage}, {kind}", number, verdict, f"{kill}: {detail}")
            if ended.survivors:
                return Found(PART, f"{stage}, {kind}", number, "wrong", f"{kill}: outlived: {ended.survivors[0]}")
        verdict, detail = self._rerun(stage, room, more)
        if verdict == "right" and more and self._aside(room / "out", stage) != [before]:
            verdict, detail = "wrong", "what stood there was not set aside"
        return Found(PART, f"{stage}, {kind}", number, verdict, f"{kill}: {detail}" if detail else "", killed=killed)

    def _kill(self, kind: str, stage: str, whole: Whole, dice: random.Random) -> Kill:
        if kind == "mark" and stage not in ("report", "run"):
            return Kill(appears=f"out/{dice.choice(MARKS).replace('*', f'{stage}*', 1)}")
        if kind in ("operation", "replacing"):
            return Kill(operation=dice.randrange(max(whole.operations, 1)))
        return Kill(after_seconds=dice.uniform(0, whole.seconds), alone=kind == "alone")

    def _aside(self, out: Path, stage: str) -> list[str]:
        """Digests of the artifacts of a stage that were set aside."""
        return [json.loads(path.read_text())["digest"] for path in sorted(out.glob(f"{stage}.aside-*/manifest.json"))]

    def _rerun(self, stage: str, room: Path, more: tuple[str, ...]) -> tuple[Verdict, str]:
        """The same command again: it must end well, with the digests of the unbroken run and nothing left behind."""
        ended = self._run(stage, room, *more)
        verdict, detail = judge(ended)
        if verdict == "refused":
            return "wrong", f"the same command is refused: {detail}"
        if verdict != "right":
            return verdict, detail
        found, want = digests(room / "out"), self.unbroken[stage].digests
        other = sorted(name for name in found.keys() | want.keys() if found.get(name) != want.get(name))
        if other:
            return "wrong", f"another digest: {', '.join(other)}"
        left = leftovers(room / "out", room / ".attack" / "tmp")
        if left:
            return "wrong", left
        if stage in ("report", "run") and not (room / "out" / "report.html").read_text().rstrip().endswith("</html>"):
            return "wrong", "report.html is not whole"
        return "right", ""

    def _begin(self, stage: str, room: Path) -> Path:
        """A directory in which the stages before this one are finished."""
        room.mkdir(parents=True, exist_ok=True)
        if stage in ("crawl", "run"):
            return room
        after = AFTER[stage]

        def left_out(folder: str, names: list[str]) -> list[str]:
            if Path(folder) != self.materials.base:
                return []
            gone = [name for name in names if name in after or name in (".lock", "report.html")]
            return gone + [name for name in names if name == "expedition.json" and stage != "report"]

        shutil.copytree(self.materials.base, room / "out", ignore=left_out)
        return room

    def _run(self, stage: str, room: Path, *more: str, kill: Kill | None = None) -> Ended:
        verb = "train" if stage == "plan" else stage
        argv = self.materials.argv(verb, room / "out", *more)
        return run(argv, room, kill=kill, cpu_seconds=CPU_SECONDS, wall_seconds=900)
