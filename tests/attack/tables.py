"""Fuzzed tables and small files: runs, layouts, constants, measured machines, schedules, a model's files."""

import csv
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.attack.cases import Found, judge
from tests.attack.command import run
from tests.attack.materials import Materials
from tests.attack.mutate import NUMBERS, STRANGE, change_bytes, change_text, change_value, value
from tests.attack.recipes import only_json

PART = "tables"
LAYOUT_HEAD = "dataset,row_id,model,gpu,n_gpus,layers,hidden,heads,seq,vocab,tp,pp,dp,mbs,gbs,recompute,tflops_per_gpu"
SHAPES = ((24, 2304, 24), (40, 6144, 48), (48, 8192, 64), (80, 10240, 80), (96, 12288, 96))
WAYS = ("cells", "text", "bytes")


class Tables:
    """The cases of this part."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        shipped = Path(__file__).resolve().parents[2] / "megalith"
        published = sorted(shipped.rglob("published.json"))
        self.constants = published[0].read_text()
        self.kinds: dict[str, Callable[[str, random.Random, Path], list[str]]] = {
            "runs of a scaling law": self._scaling,
            "layouts": self._layouts,
            "constants": self._constants,
            "schedule": self._schedule,
            "measured machine": self._machine,
            "durations": self._durations,
            "a model's files": self._model,
            "expedition.json": self._expedition,
        }

    def __call__(self, number: int, dice: random.Random, room: Path) -> Found:
        kind = list(self.kinds)[number % len(self.kinds)]
        if kind == "runs of a scaling law" and number % 48:  # a fit takes up to a minute
            kind = dice.choice(("layouts", "schedule"))
        argv = self.kinds[kind](WAYS[number // len(self.kinds) % len(WAYS)], dice, room)
        slow = kind == "runs of a scaling law"
        ended = run([*argv, "--json"], room, cpu_seconds=240 if slow else 60, wall_seconds=1200)
        verdict, detail = judge(ended, only_json)
        return Found(PART, kind, number, verdict, detail[:1500], tuple(map(ascii, argv)))

    def _scaling(self, way: str, dice: random.Random, room: Path) -> list[str]:
        rows = [["parameters", "tokens", "loss"]]
        for _ in range(dice.choice((9, 12, 20))):
            n, d = 10 ** dice.uniform(7, 10), 10 ** dice.uniform(9, 12)
            rows.append([f"{n:.4g}", f"{d:.4g}", f"{1.7 + 406 / n**0.34 + 410 / d**0.28 + dice.gauss(0, 0.01):.5g}"])
        self._write(room / "runs.csv", rows, way, dice)
        return ["scaling", "fit", "runs.csv"]

    def _layouts(self, way: str, dice: random.Random, room: Path) -> list[str]:
        rows = [LAYOUT_HEAD.split(",")]
        for number in range(12):
            layers, hidden, heads = dice.choice(SHAPES)
            tensor, pipeline, data = dice.choice((1, 2, 4, 8)), dice.choice((1, 2, 4, 8)), dice.choice((1, 2, 4))
            rows.append(
                list(
                    map(
                        str,
                        (
                            dice.choice(("one", "two")), number, "gpt", dice.choice(("a100-80gb", "h100", "v100")),
                            tensor * pipeline * data, layers, hidden, heads, 2048, 51200, tensor, pipeline, data, 1,
                            data * 16, dice.choice(("full", "none")), dice.uniform(40, 180),
                        ),
                    )
                )
            )  # fmt: skip
        self._write(room / "layouts.csv", rows, way, dice)
        verb = dice.choice(("validate", "validate", "calibrate"))
        more = ["--no-hold-out"] if verb == "validate" else ["--output", "constants.json"]
        return ["plan", verb, "layouts.csv", *more]

    def _write(self, path: Path, rows: list[list[str]], way: str, dice: random.Random) -> None:
        if way == "cells":
            for _ in range(dice.choice((1, 1, 2, 6))):
                row = dice.choice(rows)
                place = dice.randrange(len(row) or 1)
                which = dice.randrange(5)
                if which <= 2 and row:
                    row[place] = dice.choice(NUMBERS) if which else value(dice)
                elif which == 3:
                    row.insert(place, "7")
                elif row:
                    row.pop(place)
        text = io.StringIO()
        csv.writer(text, delimiter=dice.choice(",,,,,;\t")).writerows(rows)
        whole = text.getvalue()
        if way == "text":
            whole = change_text(whole, dice)
        data = whole.encode(dice.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16")), errors="surrogatepass")
        path.write_bytes(change_bytes(data, dice) if way == "bytes" else data)

    def _json(self, path: Path, text: str, way: str, dice: random.Random) -> None:
        if way == "cells":
            changed = json.dumps(change_value(json.loads(text), dice, STRANGE))
        elif way == "text":
            changed = dice.choice((change_text(text, dice), "[" * 100_000, '{"a":' * 100_000, "9" * 5000, value(dice)))
        else:
            path.write_bytes(change_bytes(text.encode(), dice))
            return
        path.write_bytes(changed.encode("utf-8", errors="surrogatepass"))

    def _constants(self, way: str, dice: random.Random, room: Path) -> list[str]:
        self._json(room / "constants.json", self.constants, way, dice)
        return [
            "plan",
            "layout",
            "gpt2-8.3b",
            "cluster.name=selene",
            "cluster.nodes=8",
            "--constants",
            "constants.json",
        ]

    def _machine(self, way: str, dice: random.Random, room: Path) -> list[str]:
        self._json(room / "here.json", json.dumps(MACHINE), way, dice)
        return ["plan", "layout", "quickstart", "--measured", "here.json"]

    def _schedule(self, way: str, dice: random.Random, room: Path) -> list[str]:
        stages, batches = dice.choice((1, 2, 4)), dice.choice((2, 4, 8))
        rows = [
            [f"0F{batch}" for batch in range(batches)] + [f"0B{batch}" for batch in range(batches)]
            for _ in range(stages)
        ]
        rows = [[f"{place}{cell[1:]}" for cell in row] for place, row in enumerate(rows)]
        self._write(room / "schedule.csv", rows, way, dice)
        size = [f"parallel.pipeline={stages}", "train.global_batch_size=8", f"train.micro_batch_size={8 // batches}"]
        shape = ["model.num_layers=4", "model.hidden_size=64", "model.num_heads=2", "train.tokens=1e6"]
        if dice.random() < 0.5:
            return ["recipe", "show", "quickstart", *shape, *size, "parallel.schedule_file=schedule.csv"]
        return ["plan", "timeline", "quickstart", *shape, *size, "parallel.tensor=1", "parallel.data=1",
                "--schedule", "schedule.csv", "--durations", "unit"]  # fmt: skip

    def _model(self, way: str, dice: random.Random, room: Path) -> list[str]:
        """A model that was copied out of its artifact, so that only its form can be checked."""
        shutil.copytree(self.materials.base / "train" / "model", room / "model")
        target = room / "model" / dice.choice(("config.json", "tokenizer.json", "model.safetensors"))
        if target.suffix == ".json":
            self._json(target, target.read_text(), way, dice)
        else:
            target.write_bytes(change_bytes(target.read_bytes(), dice))
        return ["generate", str(self.materials.recipe), "--model", "model", "--tokens", "3", "--prompt", "the house"]

    def _expedition(self, way: str, dice: random.Random, room: Path) -> list[str]:
        shutil.copytree(self.materials.base, room / "out")
        target = room / "out" / "expedition.json"
        self._json(target, target.read_text(), way, dice)
        return ["report", str(self.materials.recipe), "--output", "out"]

    def _durations(self, way: str, dice: random.Random, room: Path) -> list[str]:
        cells = [dice.choice((*NUMBERS, "", "x", "1", "2")) for _ in range(dice.choice((1, 2, 3, 4, 5)))]
        return ["plan", "timeline", "mt-nlg-530b", "--durations", ",".join(cells)]


MACHINE = {"schema_version": 1, "recipe": "quickstart", "processor": "x", "cores": 2, "blocks": [], "messages": []}
"""Not a whole one: what is looked for are words instead of a traceback."""
