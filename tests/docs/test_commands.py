"""Every command that README and the pages show can be pasted: the real verbs parse it, and the quick ones run."""

import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from megalith.cli import app
from megalith.recipe import load_recipe
from tests.conftest import ROOT
from tests.docs.pages import PAGES, VERBS, Command, blocks, commands, forms, verb_of

SHOWN = [command for page in PAGES for command in commands(page)]
OURS = [command for command in SHOWN if "megalith" in command.words]
QUICK = {"recipe show", "recipe list", "plan budget", "plan ranks", "plan curation", "plan layout", "blend"}
MADE_ELSEWHERE = {"--measured", "--constants"}  # files that another command of the page makes
SLOW = {"--gpu-hours", "--for"}  # options with which a quick verb searches many layouts


def arguments(command: Command) -> tuple[str, list[str]]:
    """The verb and its arguments, also under torchrun."""
    words = command.words
    return verb_of(words[words.index("megalith") + 1 :])


def test_the_pages_show_commands() -> None:
    assert len(OURS) >= 25
    assert {page.name for page in PAGES} >= {"README.md", "index.md", "plan.md"}


@pytest.mark.parametrize("command", OURS, ids=str)
def test_a_command_is_one_that_the_verb_takes(command: Command) -> None:
    name, given = arguments(command)
    assert name in VERBS, name
    with VERBS[name].make_context(name, given) as context:  # raises for an unknown option and a value of another kind
        recipe, overrides = context.params.get("recipe"), context.params.get("overrides")
    if recipe is None or (name == "generate" and str(recipe).startswith("models/")):  # a model in its place
        return
    recipe = ROOT / recipe if "/" in str(recipe) else recipe
    if not command.shown.startswith("megalith: override"):  # there the page shows how a slip is refused
        load_recipe(recipe, overrides or ())


@pytest.mark.parametrize("command", [one for one in OURS if arguments(one)[0] in QUICK], ids=str)
def test_a_quick_command_runs_as_shown(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, given = arguments(command)
    if set(given) & (MADE_ELSEWHERE | SLOW):
        return
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, [*name.split(), *given])
    if command.shown.startswith("megalith:"):  # the page shows how it is refused
        assert (done.exit_code, done.output.split()) == (2, command.shown.split())
    else:
        assert done.exit_code == 0, done.output
        assert done.output.strip()


@pytest.mark.parametrize("command", [one for one in SHOWN if one not in OURS], ids=str)
def test_another_command_is_a_target_of_the_makefile_a_module_or_a_benchmark(command: Command) -> None:
    program, *targets = command.words
    if program.endswith("python") and targets[0] == "-m":
        assert importlib.util.find_spec(targets[1]) is not None
        return
    if program.endswith("python") and targets[0].startswith("benchmarks/"):
        assert (ROOT / targets[0]).is_file()
        told = (ROOT / targets[0]).read_text()
        assert all(f'"{word}"' in told for word in targets[1:] if word.startswith("--")), "an option it does not have"
        return
    assert program == "make", f"{command}: how is this tried?"
    made = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(targets) <= set(made)


@pytest.mark.parametrize("form", [form for page in PAGES for form in forms(page)], ids=lambda form: form[:60])
def test_the_form_of_a_verb_names_its_options_and_no_others(form: str) -> None:
    name, _ = verb_of(form.split()[1:])
    options = {option for parameter in VERBS[name].params for option in parameter.opts if option.startswith("-")}
    assert set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", form)) <= options
    takes = {parameter.name for parameter in VERBS[name].params}
    if "RECIPE" in form and "--recipe" not in form:
        assert ("SECTION.KEY=VALUE" in form) == ("overrides" in takes)
    assert ("--json" in form) == ("as_json" in takes)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_targets_named_in_passing_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for named in re.findall(r"`make ([a-z][\w-]*)", text):
        assert named in targets
    for words in re.findall(r"`megalith ([a-z][^`]*)`", text):
        name = " ".join(words.split()[:2])
        assert name in VERBS or name.split()[0] in VERBS, words
    written = r"(?:benchmarks/(?!results)|tests/|docs/|megalith/|recipes/)[\w./-]+\.(?:py|yaml|md|json)\b"
    for script in re.findall(written, text):
        assert (ROOT / script).is_file(), script
    for file in re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+\.py)", text):
        assert any((base / file).is_file() for base in (ROOT, ROOT / "megalith", ROOT / "megalith" / "planning")), file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_the_python_on_a_page_imports_exists(page: Path) -> None:
    for language, text in blocks(page):
        if language == "python":
            compile(text, str(page), "exec")
            for module, names in re.findall(r"^from (megalith[\w.]*) import ([\w, ]+)", text, re.MULTILINE):
                for name in names.split(","):
                    assert hasattr(_module(module), name.strip()), (module, name)
    for called in re.findall(r"`(megalith(?:\.[a-z_]+)+)\(", page.read_text(encoding="utf-8")):
        module, _, name = called.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name, None)), called


def test_what_readme_says_of_all_verbs_is_so() -> None:
    said = (ROOT / "README.md").read_text()
    assert "A verb that takes a recipe takes dotted overrides after it" in said
    assert "each but `chat` prints one JSON" in said
    for name in set(VERBS):
        takes = {parameter.name: parameter for parameter in VERBS[name].params}
        assert ("as_json" in takes) == (name != "chat"), name
        if "recipe" in takes and takes["recipe"].param_type_name == "argument":
            assert "overrides" in takes, name


def _module(name: str) -> ModuleType:
    """Skips the test where a package of an extra is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("megalith"):
            raise
        pytest.skip(f"{error.name} is not installed")
