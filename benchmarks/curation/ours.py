"""Megalith's side, and what is done by hand with the libraries that Megalith itself stands on.

python benchmarks/curation/ours.py CONTESTANT FOLDER MEGABYTES
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1]))
from curation.reading import read_texts
from curation.timing import tell, timed

PACKAGES = ("megalith", "numba", "numpy", "fastwarc", "resiliparse", "tokenizers", "daft")
VOCAB = 32_000
SHINGLE = 5


def signatures(folder: Path, megabytes: float, hashes: int) -> dict[str, Any]:
    from megalith.curation.steps.dedup import signatures

    texts = pa.array(read_texts(folder / "text.jsonl", megabytes), pa.large_string())
    signatures(texts.slice(0, 1), SHINGLE, hashes)  # compiles, or reads what was compiled before
    return timed(lambda: len(signatures(texts, SHINGLE, hashes)))


def decontaminate(folder: Path, megabytes: float) -> dict[str, Any]:
    from megalith.curation.steps.decontaminate import match_spans, task_ngrams
    from megalith.recipe import DecontaminateConfig

    texts = read_texts(folder / "text.jsonl", megabytes)
    held = task_ngrams([" ".join(text.split()[:40]) for text in texts[::50]], DecontaminateConfig())
    column = pa.array(texts, pa.large_string())
    match_spans(column.slice(0, 1), held)
    return timed(lambda: sum(map(bool, match_spans(column, held))))


def filters(folder: Path, megabytes: float) -> dict[str, Any]:
    from megalith.curation.steps.heuristics import reasons, signal_table
    from megalith.recipe.heuristics import HeuristicsConfig

    rules = HeuristicsConfig(preset="fineweb")
    texts = pa.array(read_texts(folder / "text.jsonl", megabytes), pa.large_string())
    reasons(signal_table(texts.slice(0, 1)), rules)
    return timed(lambda: reasons(signal_table(texts), rules).null_count)


def pieces(folder: Path, _: float) -> dict[str, Any]:
    """JSON lines in, JSON lines out: FineWeb's rules, then near-duplicates, in one process."""
    from megalith.curation.steps.dedup import components, signatures
    from megalith.curation.steps.heuristics import reasons, signal_table
    from megalith.recipe.heuristics import HeuristicsConfig

    rules = HeuristicsConfig(preset="fineweb")
    warm = pa.array(["one two three"], pa.large_string())
    reasons(signal_table(warm), rules)
    components(signatures(warm, SHINGLE, 112), 14, 8, 0.8)

    def work() -> int:
        kept: list[dict[str, Any]] = []
        signed = []
        with (folder / "text.jsonl").open(encoding="utf-8") as file:
            while lines := file.readlines(8_000_000):
                batch = [json.loads(line) for line in lines]
                texts = pa.array([document["text"] for document in batch], pa.large_string())
                passed = np.flatnonzero(reasons(signal_table(texts), rules).is_null().to_numpy(zero_copy_only=False))
                kept += [batch[place] for place in passed]
                signed.append(signatures(texts.take(pa.array(passed)), SHINGLE, 112))
        roots = components(np.concatenate(signed), 14, 8, 0.8)
        firsts = np.flatnonzero(roots == np.arange(len(roots)))
        with (folder / "pieces.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(kept[place]) + "\n" for place in firsts)
        return len(firsts)

    return timed(work)


def verb(folder: Path, _: float) -> dict[str, Any]:
    """The whole of `megalith curate`, start-up, language, exact duplicates, decontamination and Parquet included."""
    with tempfile.TemporaryDirectory() as output:
        command = [
            sys.executable, "-m", "megalith", "curate", "quickstart", "curate.heuristics.preset=fineweb",
            "curate.heuristics.maximum_duplicate_line_characters=0.2", "--source", str(folder / "text.jsonl"),
            "--output", output, "--json",
        ]  # fmt: skip
        done = timed(lambda: subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return done | {"result": json.loads(done["result"])["documents_out"]}


def warc(folder: Path, _: float, cleaned: bool) -> dict[str, Any]:
    from megalith.curation.reading.read import read_documents
    from megalith.curation.steps.clean import clean
    from megalith.curation.steps.extract import extract

    def work() -> int:
        size = 0
        for document in read_documents(folder / "pages.warc.gz", Counter()):
            text = extract(document.html or b"", "resiliparse", document.charset)
            size += len(clean(text) if cleaned else text)
        return size

    extract(b"<p>warm", "resiliparse", None)
    return timed(work)


def warc_by_hand(folder: Path, _: float) -> dict[str, Any]:
    """Extraction by hand, as the documentation of fastwarc and resiliparse shows it."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    def work() -> int:
        size = 0
        with (folder / "pages.warc.gz").open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response):
                html = record.reader.read()
                size += len(extract_plain_text(bytes_to_str(html, detect_encoding(html)), main_content=True))
        return size

    return timed(work)


def train(folder: Path, megabytes: float, by_hand: bool) -> dict[str, Any]:
    texts = read_texts(folder / "text.jsonl", megabytes)
    if by_hand:
        trained = timed(lambda: _train_by_hand(texts))
        told = trained["result"].to_str(pretty=True) + "\n"
    else:
        from megalith.tokens.tokenizer import all_cores, train_tokenizer

        with all_cores():
            trained = timed(lambda: train_tokenizer(texts, VOCAB))
        path = folder / "ours.json"
        trained["result"].save(path)
        told = path.read_text(encoding="utf-8")
    vocabulary = json.loads(told)["model"]["vocab"]
    return trained | {"result": hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest()}


def encode(folder: Path, megabytes: float, by_hand: bool) -> dict[str, Any]:
    """With the tokenizer that `train` left."""
    texts = read_texts(folder / "text.jsonl", megabytes)
    from megalith.tokens.tokenizer import all_cores, load_tokenizer

    with all_cores():
        if by_hand:
            import tokenizers

            theirs = tokenizers.Tokenizer.from_file(str(folder / "ours.json"))
            theirs.encode_batch_fast(texts[:4])
            done = timed(lambda: [encoding.ids for encoding in theirs.encode_batch_fast(texts)])
        else:
            ours = load_tokenizer(folder / "ours.json")
            ours.encode_batch(texts[:4])
            done = timed(lambda: ours.encode_batch(texts))
    return done | {"result": _digest(done["result"])}


def _train_by_hand(texts: Sequence[str]) -> Any:
    import tokenizers

    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCAB, min_frequency=2, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    model.train_from_iterator(texts, trainer)
    return model


def _digest(ids: Sequence[Sequence[int]]) -> str:
    digest = hashlib.sha256()
    for of_one in ids:
        digest.update(np.array([len(of_one), *of_one], np.int32).tobytes())
    return digest.hexdigest()


CONTESTANTS: dict[str, Callable[[Path, float], dict[str, Any]]] = {
    "signatures 112": lambda folder, size: signatures(folder, size, 112),
    "signatures 128": lambda folder, size: signatures(folder, size, 128),
    "signatures 260": lambda folder, size: signatures(folder, size, 260),
    "filters": filters,
    "decontaminate": decontaminate,
    "pieces": pieces,
    "verb": verb,
    "warc": lambda folder, size: warc(folder, size, cleaned=False),
    "warc, cleaned": lambda folder, size: warc(folder, size, cleaned=True),
    "warc by hand": warc_by_hand,
    "train": lambda folder, size: train(folder, size, by_hand=False),
    "train by hand": lambda folder, size: train(folder, size, by_hand=True),
    "encode": lambda folder, size: encode(folder, size, by_hand=False),
    "encode by hand": lambda folder, size: encode(folder, size, by_hand=True),
}

if __name__ == "__main__":
    tell(CONTESTANTS[sys.argv[1]](Path(sys.argv[2]), float(sys.argv[3])), *PACKAGES)
