"""The card's YAML front matter, by which hubs list a data set: the fields of Hugging Face's dataset cards."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

Facts = Mapping[str, Any]

LICENCES = {
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0"),
    *("mpl-2.0", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0"),
    *("cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-2.0"),
    *("gfdl", "odbl", "odc-by", "pddl", "unlicense", "wtfpl", "zlib", "isc", "artistic-2.0", "psf-2.0"),
}
"""The hub's identifiers; it shows any other as `other`."""
SIZES = (
    *((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")),
    *((10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"), (10**11, "10B<n<100B"), (10**12, "100B<n<1T")),
)
LEAST_SHARE = 0.01


def front_matter(card: Facts) -> str:
    """The block that `card.md` begins with."""
    languages = _languages(card)
    held: dict[str, Any] = {
        "pretty_name": str(card["name"]),
        **_licence([one.get("licence") for one in card["datasets"].values()]),
        **({"language": languages} if languages else {}),
        "size_categories": [_size(card["documents_out"])],
        "source_datasets": ["original"],
        "task_categories": ["text-generation"],
        "tags": ["megalith", "pretraining", *(["deduplicated"] if _deduplicated(card) else [])],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}/*.parquet"} for split in ("train", "validation")],
            }
        ],
    }
    return f"---\n{yaml.safe_dump(held, sort_keys=False, allow_unicode=True, width=100)}---"


def _licence(said: Sequence[str | None]) -> dict[str, Any]:
    """The licences as the hub names them; in the words of the user where it has no name for one of them."""
    stated = list(dict.fromkeys(one for one in said if one))
    if not stated or len(stated) < len(set(said)):
        return {"license": "unknown"}
    known = [re.sub(r"[\s_]+", "-", one.strip().lower()).removesuffix("-license") for one in stated]
    if set(known) <= LICENCES:
        return {"license": known[0] if len(known) == 1 else known}
    return {"license": "other", "license_name": "; ".join(stated)}


def _languages(card: Facts) -> list[str]:
    """The languages that are kept, as far as they were found; the most frequent first."""
    wanted = (card["settings"].get("curate") or {}).get("languages") or ()
    counts: dict[str, int] = {}
    for held in (card["languages"] or {}).values():
        for code, many in held.items():
            if (not wanted or code in wanted) and re.fullmatch(r"[a-z]{2,3}", code) and code != "un":
                counts[code] = counts.get(code, 0) + many
    total = sum(counts.values())
    return sorted(
        (code for code, many in counts.items() if many >= LEAST_SHARE * total), key=lambda code: -counts[code]
    )


def _size(documents: int) -> str:
    return next((name for most, name in SIZES if documents < most), "n>1T")


def _deduplicated(card: Facts) -> bool:
    return any(step["name"] in ("exact", "minhash") for step in card["steps"])
