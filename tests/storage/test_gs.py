"""Google's store by its own client, against an emulator of it."""

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from megalith.artifacts import Artifact, Workspace, produce
from megalith.curation.reading import find_remote, open_file
from megalith.errors import InputError
from megalith.storage import Store, local_copy, push


@pytest.fixture
def gs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An address in an empty store."""
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is missing")
    gcsfs = pytest.importorskip("gcsfs", reason="gcsfs is missing: pip install megalith[gs]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    monkeypatch.setenv("MEGALITH_CACHE", str(tmp_path / "cache"))
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield "gs://bucket/x"
    server.stop()
    gcsfs.GCSFileSystem.clear_instance_cache()


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    def build(workspace: Workspace) -> Mapping[str, object]:
        with workspace.file("model/weights.bin") as path:
            path.write_bytes(bytes(range(256)) * 2000)
        return {}

    return produce(tmp_path / "train", stage="train", settings={}, inputs={}, seed=0, build=build)


def test_an_artifact_comes_back_and_a_changed_one_is_refused(gs: str, artifact: Artifact, tmp_path: Path) -> None:
    assert push(artifact.path, gs)[0].digest == artifact.digest
    assert push(artifact.path, gs)[0].stood
    copy = local_copy(gs, "model")
    assert (copy / "model/weights.bin").read_bytes() == bytes(range(256)) * 2000
    (tmp_path / "other").write_bytes(b"other")
    Store(gs).write(tmp_path / "other", "model/weights.bin")
    (copy / "model/weights.bin").unlink()
    with pytest.raises(InputError, match="5 bytes, and 512,000 are wanted"):
        local_copy(gs, "model")
    Store(gs).remove("model/weights.bin")
    assert [each.name for each in Store(gs).objects()] == ["manifest.json"]


def test_a_corpus_is_listed_by_patterns_and_read(gs: str, tmp_path: Path) -> None:
    for name in ("a-1.jsonl", "a-2.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(f'{{"text": "{name}"}}\n')
        Store(gs).write(tmp_path / name, f"data/{name}")
    files = find_remote(f"{gs}/data/a-*.jsonl")
    assert [file.address for file in files] == [f"{gs}/data/a-1.jsonl", f"{gs}/data/a-2.jsonl"]
    with open_file(files[1].address) as opened:
        assert opened.read() == b'{"text": "a-2.jsonl"}\n'
