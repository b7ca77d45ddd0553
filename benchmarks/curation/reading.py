"""Reads what `inputs` wrote, without any package: both sides do."""

import json
from pathlib import Path


def read_texts(path: Path, megabytes: float) -> list[str]:
    """The first documents of `inputs.write_text`, of about so much text."""
    texts: list[str] = []
    size = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            if size >= megabytes * 1e6:
                break
            texts.append(json.loads(line)["text"])
            size += len(texts[-1].encode())
    return texts
