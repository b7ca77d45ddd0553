"""The languages of many documents at once, as the `documents` artifact holds them."""

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from megalith.curation.corpus.document_table import Array
from megalith.curation.steps.language import UNKNOWN


def main_languages(found: pa.ChunkedArray) -> Array:
    """The language of the largest share of each document."""
    documents, codes, shares = _flat(found)
    main = np.full(len(found), UNKNOWN, object)
    order = np.lexsort((-np.arange(len(shares)), shares, documents))  # the largest of a document last, first of equals
    main[documents[order]] = codes[order]
    return main


def reasons(found: pa.ChunkedArray, main: Array, kept: Collection[str], minimum_share: float) -> pa.Array:
    """Why to drop each document of which less than `minimum_share` is in one of `kept`; no `kept` keeps every one."""
    if not kept:
        return pa.nulls(len(found), pa.string())
    documents, codes, shares = _flat(found)
    wanted = np.isin(codes.astype(str), list(kept))
    enough = np.bincount(documents, shares * wanted, minlength=len(found)) >= minimum_share
    why = np.where(np.isin(main.astype(str), list(kept)), "languages mixed", "language " + main)
    return pa.array(why, pa.string(), mask=enough)


def _flat(found: pa.ChunkedArray) -> tuple[Array, Array, Array]:
    """Document, code and share of each language found."""
    whole = found.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], found.type)
    documents = pc.list_parent_indices(whole).to_numpy(zero_copy_only=False)
    flat = whole.flatten()
    codes = flat.field("code").to_numpy(zero_copy_only=False).astype(object)
    return documents, codes, flat.field("share").to_numpy(zero_copy_only=False)
