"""Documents as they were read, looked at again."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from megalith.curation.corpus.document_table import Partition
from megalith.errors import InputError


def test_a_damaged_partition_is_told_in_a_sentence_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    partition = Partition(tmp_path, 0, 0, 100)
    pq.write_table(pa.table({"text": [f"{number} words" * 50 for number in range(100)]}), partition.text)
    content = bytearray(partition.text.read_bytes())
    content[4:400] = bytes(396)
    for damaged in (content, content[: len(content) // 2]):
        partition.text.write_bytes(damaged)
        with pytest.raises(InputError, match=r"cannot be read.*Remove .* and run the same command again"):
            partition.read(["text"])
        with pytest.raises(InputError, match="cannot be read"):
            list(partition.batches(np.arange(5), ["text"]))
