"""Docstrings stand without the name of what they describe, and mends say what to do in the program's own words."""

import ast
import re
from collections.abc import Iterator

from tests.conftest import ROOT

FILES = [path for room in ("megalith", "benchmarks", "tests") for path in sorted((ROOT / room).rglob("*.py"))]


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The docstrings of modules, classes and functions, and the texts under attributes, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                    value = statement.value.value
                    if isinstance(value, str):
                        yield statement.lineno, value


def mends(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The beginnings of the texts that are passed as `mend`, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "mend":
            for inner in ast.walk(node.value):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    yield inner.lineno, inner.value


def test_no_docstring_begins_with_what_or_of_and_no_mend_with_give() -> None:
    found = []
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [f"{path}:{line}: {text[:60]}" for line, text in docstrings(tree) if re.match(r"\s*(What|Of)\s", text)]
        found += [f"{path}:{line}: {text[:60]}" for line, text in mends(tree) if re.match(r"\s*Give\s", text)]
    assert found == []
