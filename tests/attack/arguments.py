"""Fuzzed arguments of every verb, on a finished expedition and without one."""

import random
from pathlib import Path

from tests.attack.cases import Found, judge
from tests.attack.command import run
from tests.attack.materials import Materials
from tests.attack.mutate import NUMBERS, value

PART = "arguments"
VERBS = {
    ("generate",): ("--prompt", "--tokens", "--temperature", "--top-k", "--top-p", "--model", "--output", "--json"),
    ("plan", "budget"): ("--flops", "--gpu-hours", "--cluster", "--nodes", "--json"),
    ("plan", "layout"): ("--for", "--deadline", "--price", "--keep", "--measured", "--constants", "--json"),
    ("plan", "curation"): ("--text", "--warc", "--documents", "--cores", "--json"),
    ("plan", "timeline"): ("--schedule", "--durations", "--output", "--json"),
    ("plan", "ranks"): ("--json",),
    ("plan", "validate"): ("--constants", "--no-hold-out", "--json"),
    ("plan", "calibrate"): ("--output", "--hold-out", "--json"),
    ("plan", "dryrun"): ("--rank", "--json"),
    ("scaling", "fit"): ("--json",),
    ("recipe", "show"): ("--json",),
    ("recipe", "list"): ("--json",),
    ("report",): ("--output", "--json"),
    ("blend",): ("--tokens", "--output", "--json"),
    ("blend", "search"): ("--mixtures", "--target", "--target-tokens", "--most-epochs", "--proxy-tokens", "--json"),
    ("card",): ("--licence", "--output", "--json"),
    ("verify",): ("--json",),
    ("curate",): ("--source", "--engine", "--ray-address", "--output", "--json"),
    ("tokenize",): ("--output", "--json"),
    ("evaluate",): ("--output", "--json"),
    ("audit",): ("--output", "--json"),
    ("scaling", "predict"): ("--flops", "--parameters", "--tokens", "--level", "--json"),
    ("scaling", "study"): ("--budgets", "--flops", "--sizes", "--ratio", "--seeds", "--jobs", "--json"),
    ("recipe", "changes"): ("--json",),
    ("compare",): ("--more-a", "--more-b", "--margin-points", "--margin-percent", "--flips", "--output", "--json"),
    ("score",): ("--prefix", "--boundary", "--precision", "--batch-tokens", "--too-long", "--output", "--json"),
    ("average",): ("--last", "--output", "--json"),
    ("chat",): ("--system", "--tokens", "--temperature", "--top-k", "--min-p", "--seed", "--precision"),
    ("import",): ("--output", "--json"),
    ("export",): ("--to", "--type", "--text", "--output", "--json"),
    ("push",): ("--json",),
    ("serve",): (),
    ("",): (),
}
WITHOUT_RECIPE = {
    "recipe list",
    "plan curation",
    "",
    "plan validate",
    "plan calibrate",
    "scaling fit",
    "card",
    "verify",
    "scaling predict",
    "recipe changes",
    "compare",
    "score",
    "average",
    "chat",
    "import",
    "export",
    "push",
}
PATHS = (
    "/dev/null", "/dev/full", "/dev/zero", "/proc/self/mem", "/proc/self/cmdline", "/", "/root", "/nonexistent/x", "",
    "..", "~", "a" * 300, "a/" * 2000 + "x", "a\nb", "\udcff\udcfe", "\ud800", "é", "-", "--", "[/red]", "x\x1b[31m",
    "file.txt", "file.txt/inner", "loop", "dangling", "fifo", "empty",
)  # fmt: skip
TEXTS = ("", " ", "\x1b]0;x\x07", "\ud800", "\udcff", "a" * 100_000, "<|endoftext|>", "\u202e", "\n" * 1000, "é\u0301")
SECOND = {"compare": "evaluate", "score": "requests.jsonl", "average": "train", "push": "store"}
"""The second argument of the verbs that take two: of the other expedition, or in the room."""
STORES = ("s3://", "s3:///", "s3://x", "gs://x", "gs://[", "S3://x/y", "ftp://x", "file:///tmp", "s3://u:p@x/y", "x")
SMALL = ("1", "2", "3", "5")


class Arguments:
    """The cases of this part."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials

    def __call__(self, number: int, dice: random.Random, room: Path) -> Found:
        verb = list(VERBS)[number % len(VERBS)]
        self._furnish(room)
        argv = [part for part in verb if part]
        named = " ".join(verb)
        if dice.random() < 0.9:
            argv.append(self._main_argument(named, dice))
        if named in SECOND and dice.random() < 0.9:
            argv.append(self._second_argument(named, dice))
        if named in ("scaling study", "blend search"):
            argv.append("--design")
        for _ in range(dice.choice((0, 1, 1, 2, 3))):
            options = VERBS[verb] or ("--help", "--version", "-x", "--nonsense")
            option = dice.choice(options) if dice.random() < 0.95 else dice.choice(("--help", "-h", "--x", "-", "--"))
            argv.append(option)
            if option not in ("--json", "--keep", "--no-hold-out", "--flips", "--help", "-h"):
                argv.append(self._argument(option, dice))
        if named == "generate" and "--tokens" not in argv:
            argv += ["--tokens", dice.choice(SMALL)]
        if named in ("report", "generate", "blend", "evaluate", "audit", "tokenize") and "--output" not in argv:
            argv += ["--output", str(self.materials.base)] if named in ("generate", "blend") else ["--output", "out"]
        argv = [part.replace("\x00", "") for part in argv]
        ended = run(argv, room)
        verdict, detail = judge(ended)
        shown = detail if verdict in ("refused", "right") else f"{ascii(argv)[:600]}: {detail}"
        return Found(PART, named or "(none)", number, verdict, shown[:1500], tuple(map(ascii, argv)))

    def _furnish(self, room: Path) -> None:
        (room / "file.txt").write_text("text\n")
        (room / "requests.jsonl").write_text('{"id": "1", "context": "the", "choices": [" house"]}\n')
        (room / "empty").mkdir()
        (room / "loop").symlink_to("loop")
        (room / "dangling").symlink_to("nowhere")

    def _main_argument(self, named: str, dice: random.Random) -> str:
        which = dice.random()
        if which < 0.7 and named not in WITHOUT_RECIPE:
            return str(self.materials.recipe) if which < 0.5 or named == "generate" else "mt-nlg-530b"
        if which < 0.5 and named == "card":
            return str(self.materials.base / "curate")
        if which < 0.5 and named == "verify":
            return str(self.materials.base)
        if which < 0.5 and named in ("score", "average", "chat", "export", "push"):
            return str(self.materials.base / "train")
        if which < 0.5 and named == "compare":
            return str(self.materials.base / "evaluate")
        return dice.choice([path for path in PATHS if path != "fifo"])

    def _second_argument(self, named: str, dice: random.Random) -> str:
        if dice.random() < 0.5:
            return str(self.materials.other / SECOND[named]) if SECOND[named] != "requests.jsonl" else "requests.jsonl"
        return dice.choice(STORES) if named == "push" else dice.choice([path for path in PATHS if path != "fifo"])

    def _argument(self, option: str, dice: random.Random) -> str:
        if option in ("--prompt", "--licence", "--hold-out", "--cluster", "--ray-address"):
            return dice.choice(TEXTS) if dice.random() < 0.7 else value(dice)
        if option in ("--output", "--model", "--constants", "--measured", "--source") or dice.random() < 0.1:
            path = dice.choice([path for path in PATHS if path != "fifo"])
            return path if option != "--output" or path not in ("/", "/root", ".", "..") else "out"
        if option == "--tokens":
            return dice.choice((*SMALL, "0", "-1", "x", "1.5", "", "9" * 5000))
        return dice.choice(NUMBERS) if dice.random() < 0.8 else value(dice)
