"""The Python door: a function for each verb, with its names and defaults, and the page that shows it."""

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import megalith as m
from megalith import cli, verbs
from megalith.cli import plan
from megalith.cli.scaling import scaling_fit, scaling_predict, scaling_study
from megalith.errors import InputError, RecipeError
from megalith.verbs import results

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "python.md"
SAME = (
    "run",
    "crawl",
    "curate",
    "tokenize",
    "train",
    "evaluate",
    "compare",
    "score",
    "generate",
    "chat",
    "serve",
    "blend",
    "verify",
    "push",
)
FUNCTION_OF = dict(zip(SAME, SAME, strict=True)) | {
    "audit": "audit_model", "report": "write_report", "card": "write_card", "import": "import_model",
    "export": "export_model", "blend search": "blend_search",
}  # fmt: skip
COMMAND_ALONE = {"as_json"}
COMMAND_ALONE_OF = {"report": {"recipe", "overrides", "output"}, "plan curation": {"cores"}}
OURS_ALONE = {"report": {"directory"}, "serve": {"ready"}, "generate": {"advance"}}
RENAMED = {"no_hold_out": "hold_out"}


def pairs() -> list[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    walk = [
        (verb, getattr(cli, name if verb in ("import", "export", "blend search") else verb), getattr(verbs, name))
        for verb, name in FUNCTION_OF.items()
    ]
    kinds = ("budget", "layout", "ranks", "timeline", "dryrun", "curation", "validate", "calibrate")
    planned = [(f"plan {kind}", getattr(plan, f"plan_{kind}"), getattr(verbs, f"plan_{kind}")) for kind in kinds]
    laws = (("fit", scaling_fit), ("predict", scaling_predict), ("study", scaling_study))
    return [*walk, *planned, *((f"scaling {name}", verb, getattr(verbs, f"scaling_{name}")) for name, verb in laws)]


@pytest.mark.parametrize(("verb", "command", "function"), pairs(), ids=[pair[0] for pair in pairs()])
def test_a_verb_and_its_function_have_the_same_names_and_defaults(
    verb: str, command: Callable[..., Any], function: Callable[..., Any]
) -> None:
    ours = inspect.signature(function).parameters
    for name, option in inspect.signature(command).parameters.items():
        if name in COMMAND_ALONE | COMMAND_ALONE_OF.get(verb, set()):
            continue
        twin = ours[RENAMED.get(name, name)]
        assert name in RENAMED or twin.default in (option.default, inspect.Parameter.empty, (), ""), name
    assert set(ours) <= {RENAMED.get(name, name) for name in inspect.signature(command).parameters} | OURS_ALONE.get(
        verb, set()
    )


def test_the_door_is_light_and_its_names_are_those_of_the_verbs() -> None:
    code = (
        "import sys, megalith as m\n"
        "assert not {'torch', 'numpy', 'scipy', 'yaml', 'pydantic', 'rich', 'typer'} & set(sys.modules)\n"
        "m.run, m.plan_budget\n"
        "assert not {'torch', 'numpy', 'scipy', 'daft', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert set(verbs.__all__) <= set(m.__all__)
    assert all(getattr(m, name) is not None for name in m.__all__)
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        m.rum  # noqa: B018 - the look-up is what is tried


def test_overrides_are_texts_or_values_and_a_recipe_may_be_given_itself() -> None:
    by_value, _ = m.load_recipe("quickstart", {"train.learning_rate": 1e-3, "curate.languages": ["en", "no"]})
    by_text, _ = m.load_recipe("quickstart", ["train.learning_rate=1e-3", "curate.languages=[en, no]"])
    assert by_value == by_text
    again, origins = m.load_recipe(by_value, {"seed": 7})
    assert again == by_value.model_copy(update={"seed": 7})
    assert origins["seed"] == "override 'seed=7'" and origins["train.tokens"] == "quickstart"
    assert m.load_recipe("quickstart", "seed=7")[0].seed == 7
    with pytest.raises(RecipeError, match=r"Did you mean train\.learning_rate"):
        m.load_recipe("quickstart", {"train.lr": 1e-3})


def test_a_stage_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    from megalith import expedition

    with pytest.raises(InputError, match=r"'plan2' is not a stage\. Use crawl, curate"):
        expedition.run_stage("plan2", m.load_recipe("quickstart")[0], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def required(shape: type) -> set[str]:
    return set(shape.__required_keys__)  # type: ignore[attr-defined]  # of every TypedDict


@pytest.mark.parametrize(
    ("shape", "make"),
    [
        (results.ClusterLayout, lambda: m.plan_layout("gpt3-175b", overrides={"parallel.zero": 1})),
        (results.Budget, lambda: m.plan_budget(1e21)),
        (results.RankMap, lambda: m.plan_ranks("gpt3-175b")),
        (results.StepTimeline, lambda: m.plan_timeline("gpt3-175b", durations="unit")),
    ],
)
def test_what_a_verb_returns_has_the_keys_of_its_type(shape: type, make: Callable[[], Any]) -> None:
    found = make()
    known = set(get_type_hints(shape))
    assert required(shape) <= set(found) <= known
    for name, inner in (("best", results.LayoutChoice), ("run", results.RunCost)):
        assert name not in found or set(found[name]) == required(inner)
    for name, row in (
        ("runners_up", results.OtherLayout),
        ("laws", results.LawRow),
        ("schedules", results.ScheduleRow),
    ):
        for one in found.get(name, ()):
            assert required(row) <= set(one) <= set(get_type_hints(row))


def test_the_page_lists_every_function() -> None:
    text = PAGE.read_text()
    assert {name for name in verbs.__all__ if f"m.{name}(" not in text} == {"Continuation", "Expedition"}


def test_what_the_page_shows_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.corpus import docstrings, write_jsonl

    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "pages.jsonl", docstrings()[:200])
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["made"].report.is_file()
    assert len(names["texts"]) == 2
