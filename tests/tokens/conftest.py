"""A small tokenizer, and small corpora in the layout that curation leaves."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.artifacts import Artifact, Workspace, produce
from megalith.recipe import ModelConfig, Recipe, TokenizeConfig
from megalith.tokens import Tokenizer, train_tokenizer

VOCAB_SIZE = 400
PROSE = (
    "The quarry lies north of the river, and the stones that leave it are as large as houses. ",
    "Men with ropes and levers moved them; nobody who saw the road believed it.\n\n",
    "In the year of the flood the river took the road, the ropes and the levers, and left the stones.\n",
    "Naïve visitors ask: “How?” The answer (2 + 2 = 4) isn't secret — it's patience. 石は重い。\n",
    "        levers:     40\n        ropes:      12\n\n\n",
)

WriteCorpus = Callable[..., Artifact]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(PROSE * 3, VOCAB_SIZE)


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        name="small",
        about="For tests.",
        tokenize=TokenizeConfig(vocab_size=VOCAB_SIZE),
        model=ModelConfig(vocab_size=VOCAB_SIZE, num_layers=1, hidden_size=8, num_heads=1),
        train={"tokens": 1000},  # type: ignore[arg-type]
    )


@pytest.fixture
def write_corpus(tmp_path: Path) -> WriteCorpus:
    """Write splits (each a list of Parquet files, each a list of texts) as a curate artifact."""

    def write(splits: Mapping[str, Sequence[Sequence[str]]], name: str = "corpus") -> Artifact:
        def build(workspace: Workspace) -> Mapping[str, object]:
            for split, files in splits.items():
                for number, texts in enumerate(files):
                    table = pa.table(
                        {
                            "id": pa.array([hashlib.sha256(text.encode()).hexdigest() for text in texts], pa.string()),
                            "url": pa.array([None for _ in texts], pa.string()),
                            "source": pa.array(["tests" for _ in texts], pa.string()),
                            "text": pa.array(list(texts), pa.string()),
                            "language": pa.array(["en" for _ in texts], pa.string()),
                        }
                    )
                    with workspace.file(f"{split}/part-{number:05}.parquet") as path:
                        pq.write_table(table, path)
            return {}

        return produce(tmp_path / name, stage="curate", settings={}, inputs={}, seed=0, build=build)

    return write
