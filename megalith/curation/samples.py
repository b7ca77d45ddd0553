"""Samples: some documents that each step dropped, for each reason, and some of those that are kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from megalith.curation.corpus.document_table import Columns, names
from megalith.curation.passes import Decisions
from megalith.ngrams.sorted_sets import different

SAMPLES = 10
"""Samples of each reason, and of kept documents."""
SAMPLE_CHARACTERS = 400

Drawn = list[Any]
"""Key and URL's number of the draw, row, and the row of the kept copy (-1 if it is none)."""


def samples(decisions: Decisions) -> dict[str, list[dict[str, Any]]]:
    """Sample the documents that each step dropped, by reason; `kept` has samples of the others."""
    held: dict[tuple[str, str], list[Drawn]] = {("", ""): []}

    def take(answer: Mapping[str, Any]) -> None:
        for step, reason, drawn in answer["samples"]:
            found = held.setdefault((step, reason), [])
            found[:] = sorted([*found, *drawn])[:SAMPLES]

    decisions.look(DrawSamples(decisions.seed), take)
    lines = [line["name"] for line in decisions.funnel.lines]
    chosen = [(step, reason, held[step, reason]) for step, reason in sorted(held) if step in {*lines, ""}]
    rows = [row for _, _, drawn in chosen for _, _, row, _ in drawn]
    copies = [copy for _, _, drawn in chosen for _, _, _, copy in drawn if copy >= 0]
    found = decisions.table.shown([*rows, *copies], ["url", "text"])
    wanted = different(np.array([*rows, *copies], np.int64))
    name_of = dict(zip(wanted.tolist(), names(decisions.table.take(wanted)["identity"]), strict=True))
    made: dict[str, list[dict[str, Any]]] = {name: [] for name in (*lines, "kept")}
    for step, reason, drawn in chosen:
        for _, _, row, copy in drawn:
            shown = {"id": name_of[row], "url": found[row]["url"], "text": found[row]["text"][:SAMPLE_CHARACTERS]}
            if reason:
                shown["reason"] = reason
            if copy >= 0:
                shown["kept"] = {"id": name_of[copy], "url": found[copy]["url"]}
            made[step or "kept"].append(shown)
    return made


@dataclass(frozen=True)
class DrawSamples:
    """Draws samples of each reason in a chunk."""

    seed: int

    def __call__(self, columns: Columns) -> Mapping[str, Any]:
        made = []
        for code, (step, reason) in enumerate(columns.reasons):
            rows = np.flatnonzero((columns.reason == code) & (columns.dataset >= 0))
            drawn = columns.drawn(rows, self.seed, SAMPLES)
            copies = columns.kept[drawn["row"] - columns.base]
            made.append(
                [step, reason, [[*one, copy] for one, copy in zip(drawn.tolist(), copies.tolist(), strict=True)]]
            )
        return {"samples": made}
