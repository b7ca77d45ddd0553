"""The verb `plan ranks`: the rank map and its traffic."""

from collections.abc import Mapping
from typing import Any

from megalith.cli.guard import verb
from megalith.cli.options import Json, Overrides, RecipeName
from megalith.cli.tables import counted, print_json
from megalith.console import human_bytes, human_seconds, note, show, table
from megalith.recipe import load_recipe


@verb
def plan_ranks(recipe: RecipeName, overrides: Overrides = None, as_json: Json = False) -> None:
    """Which node holds which ranks, and what they send over which links in a step."""
    from megalith import verbs
    from megalith.planning.rank_map import fold_nodes, fold_traffic
    from megalith.topology import AXES

    loaded, _ = load_recipe(recipe, overrides or ())
    found = verbs.plan_ranks(loaded)
    if as_json:
        print_json(found)
        return
    axes = [axis for axis in AXES if axis != "context" or found["layout"][axis] > 1]
    keys = ("node", "rank", *axes)
    nodes = [[node[key] if node else "…" for key in keys] for node in fold_nodes(found)]
    show(table(f"Ranks of {loaded.name}", ("node", "ranks", *axes), nodes))
    traffic = ("axis", "what", "collective", "stages", "ranks", "times", "payload", "sent", "links", "alone")
    show(table("What a rank sends in a step", traffic, [_traffic_row(row) for row in fold_traffic(found)], left=3))
    links = ("links", "for", "span", "rate of each", "sent at most", "alone")
    show(table("The links, at their datasheet rate", links, [_tier_row(row) for row in found["tiers"]], left=2))
    layout = " × ".join(f"{axis} {found['layout'][axis]}" for axis in axes)
    note(
        f"{counted(found['world'], 'rank')} ({layout}) on {counted(found['nodes'], 'node')} of "
        f"{found['accelerators_per_node']} {found['accelerator']}"
    )
    for line in found["notes"]:
        note(line)


def _traffic_row(row: Mapping[str, Any]) -> list[str]:
    figures = [row["pipeline"], str(row["group_size"]), f"{row['count']:,}"]
    sent = [human_bytes(row["payload_bytes"]), human_bytes(row["wire_bytes"])]
    return [row["axis"], row["what"], row["collective"], *figures, *sent, row["tier"], _seconds_cell(row["seconds"])]


def _tier_row(row: Mapping[str, Any]) -> list[str]:
    rate = "–" if row["bytes_per_second"] is None else f"{human_bytes(row['bytes_per_second'])}/s"
    sent, alone = human_bytes(row["wire_bytes"]), _seconds_cell(row["seconds"])
    return [row["name"], ", ".join(row["axes"]) or "–", f"{row['accelerators']:,}", rate, sent, alone]


def _seconds_cell(seconds: float | None) -> str:
    return "–" if seconds is None else human_seconds(seconds)
