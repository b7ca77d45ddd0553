"""Real prose for tests, found on any machine: the docstrings of the standard library, read without importing it."""

import ast
import json
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path

PACKAGES = (
    "asyncio",
    "collections",
    "concurrent",
    "email",
    "http",
    "importlib",
    "json",
    "logging",
    "unittest",
    "urllib",
)


@cache  # to parse the library takes seconds
def docstrings(*, per_file: int = 100) -> tuple[str, ...]:
    """One document a module: its docstrings one after another, in source order."""
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(library.glob("*.py")) + [
        file for name in PACKAGES for file in sorted((library / name).rglob("*.py"))
    ]
    documents = []
    for file in files:
        if "test" in file.as_posix():
            continue
        tree = ast.parse(file.read_bytes())
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
        texts = [text for node in nodes if (text := ast.get_docstring(node))]
        if texts:
            documents.append("\n\n".join(texts[:per_file]))
    return tuple(documents)


def write_jsonl(path: Path, documents: Sequence[str]) -> Path:
    """The documents in the form that `--source` takes."""
    with path.open("w") as file:
        for number, text in enumerate(documents):
            file.write(json.dumps({"text": text, "url": f"http://localhost/{number}"}) + "\n")
    return path
