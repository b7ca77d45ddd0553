"""Work handed out by Daft, and what is said when it fails."""

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from megalith.curation import daft_engine as engine
from megalith.curation.daft_engine import spread
from megalith.errors import MegalithError, ResourceError


@dataclass(frozen=True)
class Fails:
    """Work that raises, or ends its process."""

    how: str

    def __call__(self, task: engine.Task) -> dict[str, int]:
        if self.how == "dies":
            os._exit(9)
        raise ValueError("of a kind that nobody foresaw")


def test_an_error_that_nobody_foresaw_names_its_files_and_says_nothing_of_memory() -> None:
    tasks = [{"number": 0, "pieces": [{"path": "https://user:secret@host/a.warc"}, {"path": "b.warc"}]}]
    with pytest.raises(MegalithError, match="cannot be curated: ValueError: of a kind") as raised:
        list(spread(Fails("raises"), tasks, 0, lambda done, total: None))
    assert raised.value.where == "https://***@host/a.warc and 1 other files"
    assert "memory" not in str(raised.value)
    assert raised.value.leaves_whole


@pytest.mark.parametrize(
    ("killed", "said"), [((0, 0), "ended in the middle of its work, 2 times"), ((0, 1), "memory ran out")]
)
def test_a_worker_that_dies_is_blamed_on_memory_only_where_the_kernel_did_it(
    monkeypatch: pytest.MonkeyPatch, killed: tuple[int, int], said: str
) -> None:
    counts = iter(killed)
    monkeypatch.setattr(engine, "oom_kills", lambda: next(counts))
    tasks = [{"number": 0}, {"number": 1}]
    with pytest.raises(ResourceError, match=said):
        list(spread(Fails("dies"), tasks, 100_000_000, lambda done, total: None))


def test_daft_is_imported_with_its_telemetry_off() -> None:
    program = (
        "import socket\n"
        "def refuse(*arguments): raise SystemExit('tried to connect')\n"
        "socket.socket.connect = refuse\n"
        "socket.getaddrinfo = refuse\n"
        "from megalith.curation.daft_engine import daft\n"
        "from daft.scarf_telemetry import opted_out\n"
        "assert opted_out()\n"
        "daft.from_pydict({'a': [1]}).collect()\n"
    )
    silent = ("DO_NOT_TRACK", "SCARF_NO_ANALYTICS", "DAFT_ANALYTICS_ENABLED")
    environment = {name: value for name, value in os.environ.items() if name not in silent}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
