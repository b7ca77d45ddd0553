"""The peers' side, run by the Python of an environment that has them; nothing of Megalith is imported.

    PYTHON benchmarks/curation/theirs.py CONTESTANT FOLDER MEGABYTES

Each is called as its own documents say to. Loading models and a first call come before the clock.
"""

import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from curation.reading import read_texts
from curation.timing import tell, timed

PACKAGES = ("datatrove", "spacy", "datasketch", "rensa", "numpy")
SHINGLE = 5
_WORD = re.compile(r"\w+")


def datasketch(folder: Path, megabytes: float, hashes: int) -> dict[str, Any]:
    from datasketch import MinHash

    texts = read_texts(folder / "text.jsonl", megabytes)

    def work() -> int:
        signed = 0
        for text in texts:
            made = MinHash(num_perm=hashes)
            made.update_batch([shingle.encode() for shingle in _shingles(text)])
            signed += made.digest() is not None
        return signed

    return timed(work)


def rensa(folder: Path, megabytes: float, hashes: int) -> dict[str, Any]:
    from rensa import RMinHash

    texts = read_texts(folder / "text.jsonl", megabytes)

    def work() -> int:
        signed = 0
        for text in texts:
            made = RMinHash(num_perm=hashes, seed=42)
            made.update(_shingles(text))
            signed += made.digest() is not None
        return signed

    return timed(work)


def datatrove_signatures(folder: Path, megabytes: float) -> dict[str, Any]:
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    texts = read_texts(folder / "text.jsonl", megabytes)
    step = MinhashDedupSignature(output_folder=str(folder / "unused"), config=MinhashConfig())
    step.get_shingles("one two three four five six")
    return timed(lambda: sum(bool(step.get_signature(step.get_shingles(text))) for text in texts))


def datatrove_filters(folder: Path, megabytes: float) -> dict[str, Any]:
    from datatrove.data import Document

    steps = _fineweb_filters()
    documents = [Document(text=text, id="") for text in read_texts(folder / "text.jsonl", megabytes)]
    steps[1].filter(documents[0])

    def work() -> int:
        return sum(all(step.filter(document) is True for step in steps) for document in documents)

    return timed(work)


def datatrove_chain(folder: Path, megabytes: float) -> dict[str, Any]:
    """JSON lines in, JSON lines out: FineWeb's filters, then its four steps of MinHash, in one process."""
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    config = MinhashConfig()
    with tempfile.TemporaryDirectory() as given:
        work_folder = Path(given)
        (work_folder / "in").mkdir()
        with (folder / "text.jsonl").open() as file, (work_folder / "in" / "text.jsonl").open("w") as out:
            size = 0
            for line in file:
                if size >= megabytes * 1e6:
                    break
                out.write(line)
                size += len(line)
        places = {name: str(work_folder / name) for name in ("in", "kept", "signatures", "buckets", "remove", "out")}
        pipelines: list[list[Any]] = [
            [JsonlReader(places["in"]), *_fineweb_filters(), JsonlWriter(places["kept"], compression=None)],
            [JsonlReader(places["kept"]), MinhashDedupSignature(output_folder=places["signatures"], config=config)],
            [MinhashDedupBuckets(places["signatures"], places["buckets"], config=config)],
            [MinhashDedupCluster(places["buckets"], places["remove"], config=config)],
            [
                JsonlReader(places["kept"]),
                MinhashDedupFilter(input_folder=places["remove"]),
                JsonlWriter(places["out"], compression=None),
            ],
        ]

        def work() -> int:
            for number, pipeline in enumerate(pipelines):
                tasks = config.num_buckets if number == 2 else 1
                logs = work_folder / "logs" / str(number)
                LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(logs)).run()
            return sum(len(path.read_text().splitlines()) for path in Path(places["out"]).glob("*.jsonl"))

        done = timed(work)
        shutil.rmtree(work_folder / "logs", ignore_errors=True)
    return done


def _fineweb_filters() -> list[Any]:
    """The filters of FineWeb's published pipeline but for those of URL and language, which load lists and models."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    return [
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(),
    ]


def _shingles(text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    return [" ".join(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1))]


CONTESTANTS: dict[str, Callable[[Path, float], dict[str, Any]]] = {
    "rensa 128": lambda folder, size: rensa(folder, size, 128),
    "rensa 260": lambda folder, size: rensa(folder, size, 260),
    "datasketch 128": lambda folder, size: datasketch(folder, size, 128),
    "datasketch 260": lambda folder, size: datasketch(folder, size, 260),
    "datatrove signatures 112": datatrove_signatures,
    "datatrove filters": datatrove_filters,
    "datatrove chain": datatrove_chain,
}

if __name__ == "__main__":
    tell(CONTESTANTS[sys.argv[1]](Path(sys.argv[2]), float(sys.argv[3])), *PACKAGES)
