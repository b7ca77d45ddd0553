"""Which modules of this machine get a page in the crawl, and in what order; nothing is imported to find out."""

import hashlib
import importlib.machinery
import pkgutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

Chunk = Sequence[tuple[str, Path | None]]
"""Modules of one package with their source files (None: built into the interpreter); one process renders them."""

CHUNK_MODULES = 24

SIDE_EFFECTS = frozenset({"antigravity", "this", "idlelib", "turtledemo", "turtle", "tkinter", "lib2to3", "megalith"})
"""Packages that open windows or print on import, tests of grammar, and the one that is being worked on."""
PROGRAMS_AND_TESTS = frozenset({"__main__", "test", "tests", "conftest", "setup", "cli", "main"})
"""No part of a module's name may be one of these."""
UNWANTED_PREFIXES = ("__phello", "__hello", "_test", "_xx", "xx", "_sysconfigdata")


def find_modules() -> dict[str, Path | None]:
    """Every module of the standard library and of site-packages worth a page, with its source file; none is imported.

    Private modules of the standard library are among them (they are its near-duplicates), those of others are not.
    """
    modules: dict[str, Path | None] = {name: None for name in sys.builtin_module_names if _is_wanted(name)}
    standard = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), _dynamic_library_directory()]
    for name, file in _walk(standard):
        if name.split(".")[0] in sys.stdlib_module_names and _is_wanted(name):
            modules.setdefault(name, file)
    installed = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    for name, file in _walk(installed):
        if _is_wanted(name) and not any(part.startswith("_") for part in name.split(".")):
            modules.setdefault(name, file)
    return modules


def order(modules: Mapping[str, Path | None], seed: int) -> list[list[tuple[str, Path | None]]]:
    """The modules in chunks of one package each, in the order of the crawl."""
    packages: dict[str, list[str]] = {}
    for name in sorted(modules, key=lambda name: (name.count("."), name)):
        root = name.split(".")[0]
        standard = root in sys.stdlib_module_names and root != "encodings"
        packages.setdefault("" if standard else root, []).append(name)
    ranked = []
    for root, names in packages.items():
        for index, start in enumerate(range(0, len(names), CHUNK_MODULES)):
            chunk = names[start : start + CHUNK_MODULES]
            key = hashlib.sha256(f"{seed}:{chunk[0]}".encode()).hexdigest()
            ranked.append((root != "", index, key, [(name, modules[name]) for name in chunk]))
    return [chunk for *_, chunk in sorted(ranked, key=lambda each: each[:3])]


def _is_wanted(name: str) -> bool:
    parts = name.split(".")
    return (
        parts[0] not in SIDE_EFFECTS
        and not parts[0].startswith(UNWANTED_PREFIXES)
        and PROGRAMS_AND_TESTS.isdisjoint(parts)
    )


def _dynamic_library_directory() -> str:
    return str(Path(sysconfig.get_path("platstdlib")) / "lib-dynload")


def _walk(directories: Sequence[str], prefix: str = "") -> Iterator[tuple[str, Path]]:
    """The modules under `directories`, and those inside packages, by name, with their files."""
    found = sorted(pkgutil.iter_modules(list(dict.fromkeys(directories))), key=lambda module: module.name)
    for finder, name, is_package in found:
        if not isinstance(finder, importlib.machinery.FileFinder) or not name.isidentifier():
            continue
        directory = Path(finder.path)
        if is_package:
            yield f"{prefix}{name}", directory / name / "__init__.py"
            yield from _walk([str(directory / name)], f"{prefix}{name}.")
        else:
            spec = finder.find_spec(name)
            if spec is not None and spec.origin is not None:
                yield f"{prefix}{name}", Path(spec.origin)


def machine_digest(chunks: Sequence[Sequence[tuple[str, Path | None]]]) -> str:
    """Changes with the Python and with every module that could be rendered."""
    digest = hashlib.sha256(sys.version.encode())
    for name, file in (module for chunk in chunks for module in chunk):
        with suppress(OSError):
            stat = file.stat() if file else None
            digest.update(f"\n{name} {stat and (stat.st_size, stat.st_mtime_ns)}".encode())
    return digest.hexdigest()
