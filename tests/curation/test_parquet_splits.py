import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.curation import parquet_splits


def _write(documents: pa.Table, batch: int, place: Path) -> dict[str, bytes]:
    @contextlib.contextmanager
    def file(name: str) -> Iterator[Path]:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        yield place / name

    parquet_splits.write_parts(documents.to_batches(max_chunksize=batch), "train", file)
    return {path.name: path.read_bytes() for path in sorted(place.rglob("*.parquet"))}


@pytest.fixture
def documents(monkeypatch: pytest.MonkeyPatch) -> pa.Table:
    monkeypatch.setattr(parquet_splits, "ROW_GROUP_BYTES", 1000)
    monkeypatch.setattr(parquet_splits, "ROW_GROUPS_PER_FILE", 3)
    draws = random.Random(1)
    texts = ["é" * draws.randrange(1, 400) for _ in range(50)] + ["x" * 5000]
    return pa.table(
        {
            "text": pa.array(texts, pa.large_string()),
            "id": [str(number) for number in range(len(texts))],
            "url": [None] * len(texts),
            "source": ["s"] * len(texts),
            "language": ["en"] * len(texts),
            "source_id": [None] * len(texts),
            "metadata": ["{}"] * len(texts),
            "more": range(len(texts)),
        }
    ).cast(
        pa.schema(
            [
                *((name, pa.large_string()) for name in ("text", "id", "url", "source", "language")),
                *((name, pa.large_string()) for name in ("source_id", "metadata")),
                ("more", pa.int64()),
            ]
        )
    )


def test_files_hold_the_same_bytes_however_documents_come(documents: pa.Table, tmp_path: Path) -> None:
    written = [_write(documents, batch, tmp_path / str(batch)) for batch in (1, 7, 1000)]
    assert written[0] == written[1] == written[2]
    assert len(written[0]) > 2


def test_every_document_is_written_once_and_in_order(documents: pa.Table, tmp_path: Path) -> None:
    names = _write(documents, 7, tmp_path)
    read = pa.concat_tables(pq.read_table(tmp_path / "train" / name) for name in names)
    assert read["id"].to_pylist() == documents["id"].to_pylist()
    assert read["text"].to_pylist() == documents["text"].to_pylist()
    assert read.schema.names == list(parquet_splits.OUTPUT)


def test_no_documents_are_one_empty_file(documents: pa.Table, tmp_path: Path) -> None:
    assert list(_write(documents.slice(0, 0), 7, tmp_path)) == ["part-00000.parquet"]
    assert pq.read_table(tmp_path / "train" / "part-00000.parquet").num_rows == 0
