"""From the fields of a record (of JSON, CSV or a table) to a document: its text, URL, id and what is kept beside."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from megalith.curation.reading.document import LONG_METADATA, Document
from megalith.curation.reading.how import How

TEXT_FIELDS = ("text", "content", "raw_content", "document", "body")
"""Names of the field with the text, the likeliest first; capitals are as good. The first two are looked for in each
record; the others are RedPajama's, CCNet's and such."""
METADATA_BYTES = 8192
"""Longer metadata of one document is left out."""


def document_of(fields: Mapping[str, Any], counts: Counter[str], how: How) -> Document | None:
    """The document of a record, or None where it has no text, which is counted."""
    text = _text(fields, how)
    if text is None:
        counts["no_text"] += 1
        return None
    return Document(
        url=_url(fields, how),
        text=text,
        source_id=_plain(lookup(fields, how.id_field) if how.id_field else fields.get("id")),
        metadata=metadata_of(kept(fields, how), counts) if how.metadata else None,
    )


def text_name(names: Sequence[str], how: How) -> str | None:
    """The column with the text among those of a table: the one that is set, or the likeliest by its name."""
    if how.text_field:
        inside = how.text_field not in names and how.text_field.partition(".")[0] in names
        return how.text_field if inside or how.text_field in names else None
    for name in TEXT_FIELDS:
        if name in names:
            return name
    return next((name for wanted in TEXT_FIELDS for name in names if name.lower() == wanted), None)


def lookup(fields: Mapping[str, Any], name: str) -> Any:
    """The value of a field; a name with dots leads into fields within fields."""
    if name in fields:
        return fields[name]
    value: Any = fields
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def kept(fields: Mapping[str, Any], how: How) -> dict[str, Any]:
    """The fields that are kept beside the text."""
    if "*" in how.metadata:
        used = {how.text_field, how.url_field, how.id_field, "url", "id", *([] if how.text_field else TEXT_FIELDS)}
        return {name: value for name, value in fields.items() if name not in used and value is not None}
    found = ((name, lookup(fields, name)) for name in how.metadata)
    return {name: value for name, value in found if value is not None}


def metadata_of(fields: Mapping[str, Any], counts: Counter[str]) -> str | None:
    """The kept fields as JSON; None where there is none, or they are too long, which is counted."""
    if not fields:
        return None
    said = json.dumps(fields, ensure_ascii=False, default=str)
    if len(said) <= METADATA_BYTES:
        return said
    counts[LONG_METADATA] += 1
    return None


def _text(fields: Mapping[str, Any], how: How) -> str | None:
    if how.text_field:
        value = lookup(fields, how.text_field)
        return value if isinstance(value, str) else None
    for name in TEXT_FIELDS:
        if isinstance(value := fields.get(name), str):
            return value
    lower = {name.lower(): value for name, value in reversed(list(fields.items())) if isinstance(value, str)}
    return next((lower[name] for name in TEXT_FIELDS if name in lower), None)


def _url(fields: Mapping[str, Any], how: How) -> str | None:
    """The URL wherever the common corpora put it; an id names the document just as well."""
    if how.url_field:
        return _plain(lookup(fields, how.url_field))
    inner: Mapping[str, Any] = next(
        (fields[name] for name in ("meta", "metadata") if isinstance(fields.get(name), dict)), {}
    )
    found = (_plain(value) for value in (fields.get("url"), inner.get("url"), fields.get("id")))
    return next((value for value in found if value is not None), None)


def _plain(value: Any) -> str | None:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
