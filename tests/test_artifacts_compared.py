"""Damaged files are not used: every file of an artifact is compared with its digest, and its manifest is sealed."""

import json
import os
import time
from pathlib import Path

import pytest

from megalith.artifacts import (
    MANIFEST,
    check_part,
    file_digest,
    open_artifact,
    set_aside,
    verify,
)
from megalith.errors import InputError
from tests.small_artifacts import make, names


def outputs(path: Path) -> list[str]:
    return [output.path for output in open_artifact(path, "test").manifest.outputs if not output.is_log]


def flip(path: Path) -> None:
    """Change one bit in place, and put the time of the last change back as it was."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_flipped_bit_in_any_output_is_refused_by_name(tmp_path: Path) -> None:
    make(tmp_path / "a", 100_000)
    time.sleep(0.15)
    for _ in range(2):  # now read, then remembered
        open_artifact(tmp_path / "a", "test")
    for name in outputs(tmp_path / "a"):
        flip(tmp_path / "a" / name)
        with pytest.raises(InputError, match=f"{name} has been changed") as raised:
            open_artifact(tmp_path / "a", "test")
        assert "megalith verify" in (raised.value.mend or "")
        with pytest.raises(InputError, match=name):
            check_part(tmp_path / "a" / name.split("/")[0])
        flip(tmp_path / "a" / name)
    open_artifact(tmp_path / "a", "test")


def test_a_file_that_was_added_is_refused_and_logs_are_not_looked_at(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a/logs/times.txt").unlink()
    open_artifact(tmp_path / "a", "test")
    (tmp_path / "a/data/more.parquet").write_text("x")
    with pytest.raises(InputError, match=r"data/more\.parquet has been added"):
        open_artifact(tmp_path / "a", "test")


@pytest.mark.parametrize("remembered", ["", "{", "[]", '{"data/out.txt": 3}', '{"data/out.txt": [1, 2, 3, 4, 5, "x"]}'])
def test_a_damaged_cache_is_read_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make(tmp_path / "a", 100_000)
    time.sleep(0.15)
    open_artifact(tmp_path / "a", "test")
    (kept,) = (tmp_path / "cache/megalith/digests").iterdir()
    assert "data/out.txt" in json.loads(kept.read_text())
    kept.write_text(remembered)
    open_artifact(tmp_path / "a", "test")
    flip(tmp_path / "a/data/out.txt")
    kept.write_text(remembered)
    with pytest.raises(InputError, match="has been changed"):
        open_artifact(tmp_path / "a", "test")


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    make(tmp_path / "a", 100_000)
    time.sleep(0.15)
    open_artifact(tmp_path / "a", "test")


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make(tmp_path / "a", 100_000)
    time.sleep(0.15)
    open_artifact(tmp_path / "a", "test")
    read: list[str] = []

    def digest(path: Path) -> str:
        read.append(path.name)
        return file_digest(path)

    monkeypatch.setattr("megalith.artifacts.digests.file_digest", digest)
    open_artifact(tmp_path / "a", "test")
    assert read == ["other.txt"], "a small file is as quickly read as looked up"


def test_a_damaged_artifact_is_made_anew_if_it_took_little_and_refused_if_it_is_precious(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "a")
    flip(tmp_path / "a/data/out.txt")
    assert not make(tmp_path / "a").reused
    assert "a: made anew, since data/out.txt has been changed" in capfd.readouterr().err

    make(tmp_path / "b", precious=True)
    flip(tmp_path / "b/data/out.txt")
    with pytest.raises(InputError, match=r"data/out\.txt has been changed"):
        make(tmp_path / "b", precious=True)
    with set_aside():
        assert not make(tmp_path / "b", precious=True).reused
    assert names(tmp_path) == ["a", "b", "b.aside-1"]


@pytest.mark.parametrize("field", ["facts", "versions", "settings", "digest", "outputs", "seconds", "inputs"])
def test_every_field_of_the_manifest_is_sealed(tmp_path: Path, field: str) -> None:
    make(tmp_path / "a", inputs={"x": "y"})
    told = json.loads((tmp_path / "a" / MANIFEST).read_text())
    told[field] = {"facts": {"size": 4}, "versions": {}, "settings": {}, "digest": "0" * 64, "outputs": []}.get(
        field, {"seconds": 9.5, "inputs": {"x": "z"}}.get(field)
    )
    (tmp_path / "a" / MANIFEST).write_text(json.dumps(told))
    for use in (lambda: open_artifact(tmp_path / "a", "test"), lambda: make(tmp_path / "a", inputs={"x": "y"})):
        with pytest.raises(InputError, match="damaged"):
            use()


def test_a_manifest_of_an_earlier_version_is_read_and_told_apart(tmp_path: Path) -> None:
    make(tmp_path / "a")
    told = json.loads((tmp_path / "a" / MANIFEST).read_text())
    for name in ("seal", "recorded", "machine", "earlier_seconds"):
        del told[name]
    (tmp_path / "a" / MANIFEST).write_text(json.dumps(told))
    assert make(tmp_path / "a").reused
    (found,) = verify(tmp_path / "a")
    assert "unsealed" in found.files[0].state
    assert found.damaged == []
    told["outputs"][0]["sha256"] = "0" * 64
    (tmp_path / "a" / MANIFEST).write_text(json.dumps(told))
    with pytest.raises(InputError, match="damaged"):
        open_artifact(tmp_path / "a", "test")


def test_verify_tells_the_state_of_every_file(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b")
    assert [one.damaged for one in verify(tmp_path)] == [[], []]
    flip(tmp_path / "a/data/out.txt")
    (tmp_path / "a/other.txt").unlink()
    flip(tmp_path / "a/logs/times.txt")
    (tmp_path / "a/more.txt").write_text("")
    states = {file.path: file.state for file in verify(tmp_path)[0].damaged}
    assert states == {
        "data/out.txt": "damaged",
        "other.txt": "missing",
        "logs/times.txt": "damaged",
        "more.txt": "not in the manifest",
    }
    (tmp_path / "b" / MANIFEST).write_text("{")
    assert [file.path for file in verify(tmp_path)[1].damaged] == [MANIFEST]
    with pytest.raises(InputError, match="neither an artifact nor an expedition"):
        verify(tmp_path / "a/data")


def test_a_model_of_another_run_within_an_artifact_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a", 3)
    make(tmp_path / "b", 4)
    (tmp_path / "a/data/out.txt").write_bytes((tmp_path / "b/data/out.txt").read_bytes())
    with pytest.raises(InputError, match=r"data/out\.txt has been changed"):
        check_part(tmp_path / "a/data")
    check_part(tmp_path / "b/data")
    check_part(tmp_path / "elsewhere")
