"""Planted paraphrases: how many of them semantic deduplication finds at each threshold, and what else it drops.

    python benchmarks/semantic.py MODEL TEXT.jsonl.zst --documents 600 --paraphrases 200

A paraphrase has the sentences of its original in another order, and a synonym for each word that has one below: about
a tenth of the words. Of the other documents none is known to be a duplicate, so precision is a lower bound: news twice
told counts against it. Embedding, clusters and components are those of `curate.semantic`; MinHash is the default.
"""

import argparse
import io
import json
import random
import re
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import zstandard

from megalith.curation.steps.dedup import components, signatures
from megalith.curation.steps.semantic import assign, link, train
from megalith.interop.embedder import open_embedder
from megalith.machine import cpu_name
from megalith.recipe import MinHashConfig

_PAIRS = """
/ said/stated also/too after/following people/persons government/administration many/numerous new/recent
first/initial before/prior about/around made/produced two/couple police/officers show/display told/informed
killed/slain reported/announced large/big officials/authorities country/nation against/versus group/band
while/whilst because/since however/though several/various began/started attack/assault use/employ
including/counting during/amid near/close city/town since/from called/named president/leader former/previous
according/owing under/below between/among released/issued week/fortnight found/discovered help/assist
million/m. left/departed early/soon largest/biggest members/participants died/perished held/kept company/firm
public/open law/statute court/tribunal war/conflict area/region world/globe children/kids home/house may/might
could/can would/shall must/should all/every most/mainly other/another some/certain such/like will/shall
"""
SYNONYMS = dict(pair.split("/") for pair in _PAIRS.split())
THRESHOLDS = [round(0.7 + 0.01 * step, 2) for step in range(30)]


def paraphrase(text: str, seed: int) -> str:
    """The sentences of a text in another order and in other words."""
    draws = random.Random(seed)
    sentences = re.split(r"(?<=[.!?])\s+", text)
    draws.shuffle(sentences)
    return re.sub(r"[A-Za-z]+", lambda found: SYNONYMS.get(found[0].lower(), found[0]), " ".join(sentences))


def read(path: Path, count: int) -> list[str]:
    """The first texts of some length."""
    with path.open("rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8")
        texts = (json.loads(line)["text"] for line in lines)
        return [text for text, _ in zip((t for t in texts if 600 < len(t) < 1100), range(count), strict=False)]


def main() -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--documents", type=int, default=600)
    parser.add_argument("--paraphrases", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--name")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "semantic.json")
    asked = parser.parse_args()
    texts = read(asked.text, asked.documents)
    planted = [paraphrase(text, seed) for seed, text in enumerate(texts[: asked.paraphrases])]
    everything = [*texts, *planted]
    minhash = MinHashConfig()
    signed = signatures(pa.array(everything), minhash.shingle_words, minhash.bands * minhash.rows)
    roots = components(signed, minhash.bands, minhash.rows, minhash.minimum_jaccard)
    found = roots[: len(planted)] == roots[len(texts) :]
    embedder = open_embedder(asked.model)
    start = time.process_time()
    points = embedder.embed(everything, asked.tokens).astype(np.float16)
    seconds = time.process_time() - start
    order = np.random.default_rng(0).permutation(len(points))
    measured = {
        "processor": cpu_name(),
        "documents": len(texts),
        "paraphrases": len(planted),
        "tokens": asked.tokens,
        "width": embedder.width,
        "embedding_cpu_seconds_a_document": round(seconds / len(points), 4),
        "minhash_recall": round(float(found.mean()), 4),
        "clusters": {},
    }
    for clusters in (1, int(len(points) ** 0.5)):
        nearest, _ = assign(points, train(points[order], clusters))
        rows = []
        joined = np.zeros((len(THRESHOLDS), len(points)), np.int64)
        for cluster in range(clusters):
            members = np.flatnonzero(nearest == cluster)
            made = link(len(members), lambda a, b, m=members: points[m[a:b]], np.array(THRESHOLDS), 0.95)
            joined[:, members] = members[made.roots]
        for level, threshold in enumerate(THRESHOLDS):
            hit = int((joined[level, : len(planted)] == joined[level, len(texts) :]).sum())
            dropped = len(points) - len(np.unique(joined[level]))
            precision = round(hit / dropped, 4) if dropped else None
            recall = round(hit / len(planted), 4)
            rows.append({"threshold": threshold, "recall": recall, "dropped": dropped, "precision": precision})
            print(f"{clusters:4d} clusters  {threshold:.2f}  recall {recall:.3f}  dropped {dropped:4d}  {precision}")
        measured["clusters"][str(clusters)] = rows
    told = json.loads(asked.output.read_text()) if asked.output.is_file() else {}
    told[asked.name or asked.model.name] = measured
    asked.output.write_text(json.dumps(told, indent=1) + "\n")
    print({name: value for name, value in measured.items() if name != "clusters"})


if __name__ == "__main__":
    main()
