"""The dependencies in pyproject.toml are those that the package uses."""

import re
import tomllib
from importlib.metadata import packages_distributions

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "megalith").rglob("*.py")))
IMPORTED_BY_OTHERS = {"lxml-html-clean", "setuptools"}  # trafilatura and justext import the first


def distribution(requirement: str) -> str:
    """The normalised name of a distribution in a requirement such as `daft[ray]>=0.7`."""
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_every_dependency_is_imported_by_the_package() -> None:
    modules: dict[str, set[str]] = {}
    for module, names in packages_distributions().items():
        for name in names:
            modules.setdefault(distribution(name), set()).add(module)
    for name in {distribution(one) for one in PROJECT["dependencies"]} - IMPORTED_BY_OTHERS:
        assert any(
            re.search(rf"^\s*(import|from) ([\w.]+\.)?{module}\b", SOURCE, re.MULTILINE) for module in modules[name]
        ), name


def test_every_extra_is_one_that_the_package_or_its_pages_tell_how_to_use() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")))
    for extra in set(PROJECT["optional-dependencies"]) - {"dev", "docs"}:
        assert f"megalith[{extra}]" in SOURCE + pages, extra
