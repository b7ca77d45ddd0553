"""Write JSON lines of any size for measuring curation: paragraphs of real text, recombined, with duplicates planted.

    python benchmarks/synthetic_corpus.py OUT.jsonl --bytes 1e9 --data ../data [--seed 1]

Every document is some paragraphs drawn from the corpora of MEGALITH_DATA. Of a hundred, two repeat an earlier one but
for case, five are near-copies of one (a sentence more, some words fewer), three are too short, one is German.
What was planted stands in each line's `planted`: nothing, or the kind and the number of the line that it repeats.
"""

import argparse
import io
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import zstandard

CORPORA = ("wikinews_en", "openstax_ccby", "wikipedia_en_2015", "gutenberg_books")
REMEMBERED = 2000
"""Earlier documents from which copies are made."""
GERMAN = "Der alte Kapitän ging jeden Morgen am Hafen entlang und zählte die Schiffe der Nacht. "


def paragraphs(data: Path) -> list[str]:
    """All paragraphs of prose of the corpora."""
    found = []
    for corpus in CORPORA:
        for file in sorted((data / "corpora" / corpus).glob("*.jsonl.zst")):
            with file.open("rb") as packed:
                reader = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(packed)
                for line in io.TextIOWrapper(reader, encoding="utf-8"):
                    parts = json.loads(line)["text"].split("\n\n")
                    found += [" ".join(part.split()) for part in parts if 200 < len(part) < 3000]
    return found


def documents(texts: list[str], seed: int) -> Iterator[dict[str, str]]:
    """Documents without end."""
    draws = random.Random(seed)
    earlier: list[tuple[int, str]] = []
    number = 0
    while True:
        kind = draws.random()
        planted = ""
        if kind < 0.02 and earlier:
            origin, text = draws.choice(earlier)
            text, planted = text.upper(), f"exact {origin}"
        elif kind < 0.07 and earlier:
            origin, text = draws.choice(earlier)
            words = text.split(" ")
            gone = set(draws.sample(range(len(words)), len(words) // 200))
            text = " ".join(word for place, word in enumerate(words) if place not in gone)
            text, planted = f"{text} And so it was at line {number}.", f"near {origin}"
        elif kind < 0.10:
            text, planted = draws.choice(texts)[:150], "short"
        elif kind < 0.11:
            text, planted = GERMAN * 10 + str(number), "german"
        else:
            text = "\n\n".join(draws.choice(texts) for _ in range(draws.randint(2, 12)))
            if len(earlier) < REMEMBERED:
                earlier.append((number, text))
            elif draws.random() < 0.01:
                earlier[draws.randrange(REMEMBERED)] = (number, text)
        yield {"text": text, "url": f"https://site{number % 997}.example/{number}", "planted": planted}
        number += 1


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--bytes", type=float, default=1e9)
    arguments.add_argument("--data", type=Path, default=os.environ.get("MEGALITH_DATA"))
    arguments.add_argument("--seed", type=int, default=1)
    given = arguments.parse_args()
    written = 0
    with given.out.open("w", encoding="utf-8") as file:
        for document in documents(paragraphs(given.data), given.seed):
            written += file.write(json.dumps(document, ensure_ascii=False) + "\n")
            if written >= given.bytes:
                break


if __name__ == "__main__":
    main()
