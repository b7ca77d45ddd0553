"""Exact duplicates: texts that are equal but for case, white space and Unicode composition."""

import hashlib
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def fingerprint(text: str) -> bytes:
    """128 bits of the text in NFC, lower case, with white space collapsed."""
    normal = " ".join(unicodedata.normalize("NFC", text).lower().split())
    return hashlib.blake2b(normal.encode(), digest_size=16).digest()


def find_duplicates(documents: pa.Table) -> pa.Table:
    """The duplicates among `documents` (row, priority, id, url, fingerprint): row, reason, kept_id, kept_url.

    Of each group the copy of the source named first is kept, then that of the smallest id, then of the smallest url;
    the order of the rows is of no account.
    """
    order = pc.sort_indices(
        documents,
        sort_keys=[(key, "ascending") for key in ("fingerprint", "priority", "id", "url", "row")],
    )
    ordered = documents.take(order)
    marks = ordered["fingerprint"].to_pylist()
    first = np.array([index == 0 or marks[index - 1] != mark for index, mark in enumerate(marks)], dtype=bool)
    kept = np.maximum.accumulate(np.where(first, np.arange(len(marks)), 0))
    later = pa.array(np.flatnonzero(~first))
    copies = ordered.take(pa.array(kept[~first]))
    return pa.table(
        {
            "row": ordered["row"].take(later),
            "reason": pa.array(["duplicate"] * len(later), pa.string()),
            "kept_id": copies["id"],
            "kept_url": copies["url"],
        }
    )
