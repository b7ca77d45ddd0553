import random

import pyarrow as pa

from megalith.curation.exact import find_duplicates, fingerprint


def test_case_white_space_and_composition_make_no_other_text() -> None:
    assert fingerprint("Caf\u00e9  au\nlait") == fingerprint("cafe\u0301 AU lait ")
    assert fingerprint("a b") != fingerprint("ab")


def _documents(rows: list[tuple[int, str, str, bytes]]) -> pa.Table:
    priorities, ids, urls, marks = zip(*rows, strict=True)
    return pa.table(
        {"row": range(len(rows)), "priority": priorities, "id": ids, "url": urls, "fingerprint": list(marks)}
    )


def test_the_copy_of_the_first_source_is_kept_then_the_smallest_id_then_url() -> None:
    rows = [
        (1, "a", "u9", b"x"),
        (0, "c", "u1", b"x"),
        (0, "b", "u2", b"x"),
        (0, "b", "u3", b"x"),
        (1, "d", "u4", b"y"),
        (0, "e", "u5", b"z"),
    ]
    found = find_duplicates(_documents(rows))
    assert sorted(found["row"].to_pylist()) == [0, 1, 3]
    assert set(found["kept_id"].to_pylist()) == {"b"}
    assert set(found["kept_url"].to_pylist()) == {"u2"}


def test_the_order_of_rows_makes_no_difference() -> None:
    draws = random.Random(1)
    rows = [
        (draws.randrange(2), f"id{draws.randrange(20)}", f"u{number}", bytes([draws.randrange(8)]))
        for number in range(60)
    ]
    kept = []
    for _ in range(3):
        draws.shuffle(rows)
        lost = set(find_duplicates(_documents(rows))["row"].to_pylist())
        kept.append(sorted(row for number, row in enumerate(rows) if number not in lost))
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == len({row[3] for row in rows})
