"""Exact duplicates: texts that are equal but for case, white space and Unicode composition."""

import hashlib
import unicodedata


def fingerprint(text: str) -> bytes:
    """128 bits of the text in NFC, lower case, with white space collapsed."""
    normal = " ".join(unicodedata.normalize("NFC", text).lower().split())
    return hashlib.blake2b(normal.encode(), digest_size=16).digest()
