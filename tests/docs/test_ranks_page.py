"""The page of `plan ranks` describes every cluster that a recipe may name, and no other."""

import re

from megalith.topology import known_clusters
from tests.conftest import ROOT


def test_every_cluster_that_is_described_has_its_row() -> None:
    page = (ROOT / "docs" / "verbs" / "ranks.md").read_text(encoding="utf-8")
    _, _, rows = page.partition("| `cluster.name` |")
    names = [
        name for row in rows.partition("\n\n")[0].splitlines() for name in re.findall("`(.+?)`", row.split("|")[1])
    ]
    assert sorted(names) == sorted(known_clusters())
