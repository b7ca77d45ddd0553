"""Clusters of duplicates with excerpts of the kept and of some dropped texts, from their first difference.

Dropped texts are read from the `documents` artifact beside the curated one. If that has been removed, clusters are
listed by id and address alone.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from megalith.artifacts import Artifact, check_part

Facts = Mapping[str, Any]

SHOWN = 3
"""Dropped documents of a cluster whose texts are shown."""
WORDS, WORDS_BEFORE, LOOKED_AT = 70, 12, 40_000  # words of an excerpt, of these before the first difference; characters


def clusters_to_look_at(artifact: Artifact, clusters: Sequence[Facts]) -> list[dict[str, Any]]:
    """Add `kept_pieces` and `pieces`, lists of (text, differs), to some dropped documents of each cluster."""
    wanted = {one["kept"]["id"] for one in clusters}
    wanted |= {dropped["id"] for one in clusters for dropped in one["dropped"][:SHOWN]}
    texts = _texts(artifact.path.with_name(str(artifact.facts.get("documents") or "")), wanted)
    told = []
    for cluster in clusters:
        kept = texts.get(cluster["kept"]["id"])
        dropped: list[dict[str, Any]] = []
        for one in cluster["dropped"]:
            text = texts.get(one["id"])
            apart = _parting(kept, text) if kept is not None and text is not None and len(dropped) < SHOWN else {}
            dropped.append(dict(one) | apart)
        told.append(dict(cluster) | {"dropped": dropped})
    return told


def _parting(kept: str, dropped: str) -> dict[str, Any]:
    """Excerpt both texts around their first differing word, as lists of (text, differs)."""
    ours, theirs = kept[:LOOKED_AT].split(), dropped[:LOOKED_AT].split()
    same = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    first = 0 if ours == theirs else max(0, same - WORDS_BEFORE)
    ours, theirs = ours[first : first + WORDS], theirs[first : first + WORDS]
    matched = difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes()
    before: list[tuple[str, bool]] = []
    after: list[tuple[str, bool]] = []
    for kind, a, b, c, d in matched:
        cut_off = (b == WORDS or d == WORDS) and kind in ("insert", "delete")  # its like lies past the excerpt's end
        if a < b:
            before.append((" ".join(ours[a:b]), kind != "equal" and not cut_off))
        if c < d:
            after.append((" ".join(theirs[c:d]), kind != "equal" and not cut_off))
    return {"kept_pieces": before, "pieces": after, "at_word": first}


def _texts(documents: Path, wanted: set[str]) -> dict[str, str]:
    """Read the texts of documents by id; row groups without any of them are read for their ids alone."""
    found: dict[str, str] = {}
    if not documents.name or not wanted or not (documents / "text").is_dir():
        return found
    check_part(documents / "text")
    ids = pa.array([bytes.fromhex(name[:32]) for name in sorted(wanted)], pa.binary(16))
    for group, file in _groups(sorted((documents / "text").glob("*.parquet"))):
        if len(found) == len(wanted):
            break
        rows = pc.indices_nonzero(pc.is_in(file.read_row_group(group, columns=["id"])["id"], ids))
        if len(rows):
            table = file.read_row_group(group, columns=["id", "text"]).take(rows)
            names = [name.hex() for name in table["id"].to_pylist()]
            found |= dict(zip(names, table["text"].to_pylist(), strict=True))
    return found


def _groups(files: Sequence[Path]) -> Iterator[tuple[int, Any]]:
    for path in files:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield group, file
