"""Fuzzed recipes, overrides and arguments, through `recipe show` and the verbs that plan on paper."""

import json
import random
from pathlib import Path
from typing import Any

import yaml

from megalith.recipe.loading import shipped_recipes
from tests.attack.cases import Found, Right, judge
from tests.attack.command import Ended, run
from tests.attack.materials import Materials
from tests.attack.mutate import STRANGE, bomb, change_bytes, change_text, change_value, plausible, value

CLUSTER_RECIPES = ("mt-nlg-530b", "gpt2-8.3b", "turing-nlg-17b", "gpt3-175b", "bert-1.3b", "llama-8b")
PLANNING = (
    ("plan", "ranks"),
    ("plan", "budget"),
    ("plan", "timeline"),
    ("plan", "layout"),
    ("blend",),
)
PLANNING_SHARE = 0.12
"""Planning takes seconds where `recipe show` takes hundredths."""


class Keys:
    """Every dotted key of a recipe, for overrides."""

    def __init__(self, home: Path) -> None:
        ended = run(["recipe", "show", "quickstart", "--json"], home)
        self.keys = sorted(json.loads(ended.out)["origins"])
        self.home = home
        self.figures: dict[str, list[tuple[str, float]]] = {}

    def key(self, dice: random.Random) -> str:
        which = dice.random()
        key = dice.choice(self.keys)
        if which < 0.9:
            return key
        if which < 0.93:
            return key.partition(".")[0]
        if which < 0.96:
            return key + dice.choice((".x", ".", "x", " ", "..", ".0", "[0]"))
        return dice.choice(
            ("", ".", "..", "x", "a.b.c", "name.x", "\ud800", "é.b", "__class__", "model.__dict__", "[/]")
        )

    def override(self, dice: random.Random) -> str:
        made = plausible(dice) if dice.random() < 0.4 else value(dice)
        return f"{self.key(dice)}={made}".replace("\x00", "")

    def plan(self, name: str, dice: random.Random) -> str:
        """An override of a figure that planning depends on, by a small factor."""
        if name not in self.figures:
            whole = json.loads(run(["recipe", "show", name, "--json"], self.home).out)["recipe"]
            self.figures[name] = [
                (f"{section}.{key}", figure)
                for section in ("model", "parallel", "cluster", "train", "budget")
                for key, figure in whole[section].items()
                if isinstance(figure, int | float) and not isinstance(figure, bool)
            ]
        key, figure = dice.choice(self.figures[name])
        changed = figure * dice.choice((2, 4, 3, 0.5, 0.25, 10, 100, 1.5))
        return f"{key}={round(changed) if isinstance(figure, int) else changed}"


def only_json(ended: Ended) -> str | None:
    """Whether standard output is one JSON object, without figures that JSON does not have."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        json.loads(ended.out, parse_constant=refuse)
    except ValueError as error:
        return f"standard output is not one JSON object: {error}: {ended.out[:200]!r}"
    return None


class Recipes:
    """Files: shipped recipes with changed text, changed values or changed bytes."""

    PART = "recipes"

    def __init__(self, materials: Materials) -> None:
        self.texts = {name: path.read_text() for name, path in shipped_recipes().items()}

    def __call__(self, number: int, dice: random.Random, room: Path) -> Found:
        name = dice.choice(CLUSTER_RECIPES if dice.random() < 0.3 else tuple(self.texts))
        kind = ("text", "values", "bytes", "bombs")[number % 4]
        file = room / dice.choice(("r.yaml", "r.yml", "r", "r [red].yaml", "é.yaml"))
        file.write_bytes(self._content(kind, self.texts[name], dice))
        verb = dice.choice(PLANNING) if dice.random() < PLANNING_SHARE else ("recipe", "show")
        argv = [*verb, str(file), "--json"]
        ended = run(argv, room)
        right: Right = same_again(room) if verb == ("recipe", "show") and number % 3 == 0 else only_json
        verdict, detail = judge(ended, right)
        return Found(self.PART, kind, number, verdict, _told(argv, detail, verdict), tuple(map(str, argv)))

    def _content(self, kind: str, text: str, dice: random.Random) -> bytes:
        if kind == "text":
            return change_text(text, dice).encode("utf-8", errors="surrogatepass")
        if kind == "bytes":
            whole = text.encode(dice.choice(("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig", "cp037")), "replace")
            return change_bytes(whole, dice)
        if kind == "values":
            strange = [*STRANGE, *(_RawYaml(value(dice)) for _ in range(5))]
            changed = change_value(yaml.safe_load(text), dice, strange)
            return _yaml(changed).encode("utf-8", errors="surrogatepass")
        key = dice.choice(("model", "name", "about", "x", "curate", "seed", "parallel"))
        return dice.choice(
            (
                f"{key}: {bomb(dice)}\n{text}",
                f"{text}\n{key}: {bomb(dice)}\n",
                f"{key}: &a {{x: *a}}\n{text}",
                f"base: &b {{{', '.join(f'k{place}: 1' for place in range(2000))}}}\n{text}x: {{<<: *b}}\n",
                text.replace("model:", f"model:\n  <<: {bomb(dice)}", 1),
                f"{text}\n" + "".join(f"k{place}: {{}}\n" for place in range(5000)),
                "\n".join(f"{'  ' * depth}a:" for depth in range(3000)),
                f"{text}\n{'x' * 1_000_000}: 1\n",
                f"{text}\nz: {value(dice)}\n",
            )
        ).encode("utf-8", errors="surrogatepass")


class Overrides:
    """Overrides of every key with strange values, one or several."""

    PART = "overrides"

    def __init__(self, materials: Materials) -> None:
        self.keys = Keys(materials.home)
        self.names = tuple(shipped_recipes())

    def __call__(self, number: int, dice: random.Random, room: Path) -> Found:
        planning = dice.random() < PLANNING_SHARE
        verb = dice.choice(PLANNING) if planning else ("recipe", "show")
        name = dice.choice(CLUSTER_RECIPES if planning else self.names)
        near = planning and dice.random() < 0.7
        count = dice.choice((1, 1, 1, 2, 4))
        overrides = [self.keys.plan(name, dice) if near else self.keys.override(dice) for _ in range(count)]
        argv = [*verb, name, *overrides, "--json"]
        ended = run(argv, room)
        right: Right = same_again(room) if not planning and number % 3 == 0 else only_json
        verdict, detail = judge(ended, right)
        return Found(self.PART, " ".join(verb), number, verdict, _told(argv, detail, verdict), tuple(map(str, argv)))


def same_again(room: Path) -> Right:
    """Whether a shown recipe, written down and shown again, is the same."""

    def right(ended: Ended) -> str | None:
        complaint = only_json(ended)
        if complaint is not None:
            return complaint
        shown = json.loads(ended.out)["recipe"]
        again = room / "again.yaml"
        again.write_text(json.dumps(shown))
        second = run(["recipe", "show", str(again), "--json"], room)
        if second.code:
            return f"what was shown is not taken again: {second.said[-300:]}"
        return None if json.loads(second.out)["recipe"] == shown else "shown again, it is another recipe"

    return right


class _RawYaml(str):
    """Text that stands in YAML as it is."""


def _yaml(whole: Any) -> str:
    """A value as YAML in flow style; `_RawYaml` goes in as it stands."""
    if isinstance(whole, _RawYaml):
        return str(whole)
    if isinstance(whole, dict):
        return "{" + ", ".join(f"{_yaml(key)}: {_yaml(inner)}" for key, inner in whole.items()) + "}"
    if isinstance(whole, list):
        return "[" + ", ".join(map(_yaml, whole)) + "]"
    if isinstance(whole, float):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(whole), repr(whole))
    if isinstance(whole, str | int | bool | None):
        return json.dumps(whole) if not isinstance(whole, int) or abs(whole) < 10**4000 else "9" * 5000
    return str(whole)


def _told(argv: list[str], detail: str, verdict: str) -> str:
    """The lines to print of a case: of one that failed, its arguments too."""
    if verdict in ("refused", "right"):
        return detail[:200]
    shown = " ".join(ascii(one)[:160] for one in argv)
    return f"{shown}: {detail}"
