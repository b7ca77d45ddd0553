"""Artifacts into S3 and back: whole or absent there, verified here, and no secret on the way."""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from megalith.artifacts import Artifact, Workspace, file_digest, produce
from megalith.errors import InputError, MegalithError, ResourceError, UnsupportedError
from megalith.storage import Store, local_copy, push, retry, store
from megalith.storage.copies import cache_folder
from tests.curation.http_server import served
from tests.storage.conftest import SECRET, Proxy

CONTENT = {"model/config.json": b"{}", "model/weights.bin": bytes(range(256)) * 1200, "checkpoints/last.bin": b"x" * 99}


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    def build(workspace: Workspace) -> Mapping[str, object]:
        for name, content in CONTENT.items():
            with workspace.file(name) as path:
                path.write_bytes(content)
        (workspace.logs / "log.txt").write_text("told")
        return {}

    return produce(tmp_path / "run" / "train", stage="train", settings={}, inputs={}, seed=0, build=build)


def test_an_artifact_comes_back_as_it_was_pushed(artifact: Artifact, s3: Proxy) -> None:
    (pushed,) = push(artifact.path, "s3://bucket/models/a")
    assert (pushed.digest, pushed.files, pushed.stood) == (artifact.digest, 4, False)
    assert s3.objects().keys() == {f"models/a/{name}" for name in (*CONTENT, "logs/log.txt", "manifest.json")}
    copy = local_copy("s3://bucket/models/a")
    assert {name: (copy / name).read_bytes() for name in CONTENT} == CONTENT
    assert (copy / "manifest.json").read_bytes() == (artifact.path / "manifest.json").read_bytes()
    before = len(s3.asked)
    assert local_copy("s3:/bucket/models/a") == copy  # as a Path spells it
    assert not [asked for asked in s3.asked[before:] if "weights" in asked]


def test_the_manifest_is_written_last(artifact: Artifact, s3: Proxy) -> None:
    push(artifact.path, "s3://bucket/a")
    written = [asked.split("?")[0] for asked in s3.asked if asked.startswith("PUT")]
    assert written[-1] == "PUT /bucket/a/manifest.json"
    assert len(written) == 5


def test_an_expedition_is_pushed_with_each_of_its_artifacts(artifact: Artifact, s3: Proxy) -> None:
    (artifact.path.parent / "expedition.json").write_text("{}")
    (pushed,) = push(artifact.path.parent, "s3://bucket/run")
    assert pushed.address == "s3://bucket/run/train"
    assert {"run/expedition.json", "run/train/manifest.json"} <= s3.objects().keys()


@pytest.mark.parametrize("written", [0, 2, 4])
def test_a_push_that_breaks_off_leaves_no_artifact_and_the_next_one_makes_it_whole(
    artifact: Artifact, s3: Proxy, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    real, calls = Store.write, []

    def broken(self: Store, file: Path, name: str) -> None:
        if len(calls) == written:
            raise KeyboardInterrupt
        calls.append(name)
        real(self, file, name)

    monkeypatch.setattr(Store, "write", broken)
    with pytest.raises(KeyboardInterrupt):
        push(artifact.path, "s3://bucket/a")
    assert "a/manifest.json" not in s3.objects()
    monkeypatch.setattr(Store, "write", real)
    if written:
        with pytest.raises(InputError):
            local_copy("s3://bucket/nothing")
    push(artifact.path, "s3://bucket/a")
    assert (local_copy("s3://bucket/a") / "model/weights.bin").read_bytes() == CONTENT["model/weights.bin"]


def test_what_stands_in_a_store_is_never_replaced(artifact: Artifact, s3: Proxy, tmp_path: Path) -> None:
    push(artifact.path, "s3://bucket/a")
    before = s3.objects()
    assert push(artifact.path, "s3://bucket/a")[0].stood
    other = produce(tmp_path / "other", stage="train", settings={"a": 1}, inputs={}, seed=0, build=lambda _: {})
    with pytest.raises(InputError, match="another artifact stands there"):
        push(other.path, "s3://bucket/a")
    s3.put("b/manifest.json", b"{}")
    with pytest.raises(InputError, match="cannot be read"):
        push(artifact.path, "s3://bucket/b")
    s3.delete("b/manifest.json")
    assert s3.objects() == before


def test_a_damaged_artifact_is_not_pushed(artifact: Artifact, s3: Proxy) -> None:
    (artifact.path / "model/config.json").write_bytes(b"[]")
    with pytest.raises(InputError, match=r"config\.json has been changed"):
        push(artifact.path, "s3://bucket/a")
    assert s3.objects() == {}


@pytest.mark.parametrize(
    "faults",
    [
        ["PUT status:503", "PUT status:500", "PUT hang up", "GET status:503", "GET status:500"],
        ["GET hang up", "GET drop:1000", "GET drop:0", "HEAD status:503", "HEAD hang up"],
        ["PUT status:503"] * 3 + ["GET drop:10"] * 3,
    ],
)
def test_a_failing_store_is_asked_again_until_all_is_there(artifact: Artifact, s3: Proxy, faults: list[str]) -> None:
    s3.faults[:] = faults
    push(artifact.path, "s3://bucket/a")
    copy = local_copy("s3://bucket/a")
    assert {name: (copy / name).read_bytes() for name in CONTENT} == CONTENT
    assert s3.faults == []


@pytest.mark.parametrize("fault", ["GET stall:30", "GET drip:100", "HEAD stall:30"])
def test_a_slow_store_has_a_time_limit(
    artifact: Artifact, s3: Proxy, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(artifact.path, "s3://bucket/a")
    monkeypatch.setattr(store, "LIMIT_SECONDS", 0.3)
    monkeypatch.setattr(store, "SLOWEST_BYTES_PER_SECOND", 10**9)
    s3.faults[:] = [fault]
    assert (local_copy("s3://bucket/a") / "model/weights.bin").read_bytes() == CONTENT["model/weights.bin"]
    s3.faults[:] = [fault] * 40
    shutil.rmtree(cache_folder())
    with pytest.raises(ResourceError, match="no answer within"):
        local_copy("s3://bucket/a")


def test_a_file_that_is_not_what_the_manifest_says_is_refused(artifact: Artifact, s3: Proxy) -> None:
    push(artifact.path, "s3://bucket/a")
    for content, complaint in (
        (CONTENT["model/weights.bin"][:-1], "307,199 bytes, and 307,200 are wanted"),
        (CONTENT["model/weights.bin"][:-1] + b"!", "other content than its digest says"),
    ):
        s3.put("a/model/weights.bin", content)
        with pytest.raises(InputError, match=complaint) as caught:
            local_copy("s3://bucket/a")
        assert caught.value.where == "s3://bucket/a/model/weights.bin"
    s3.put("a/model/weights.bin", CONTENT["model/weights.bin"])
    copy = local_copy("s3://bucket/a")
    (copy / "model/weights.bin").write_bytes(b"spoilt")  # here: it is fetched again
    assert (local_copy("s3://bucket/a") / "model/weights.bin").read_bytes() == CONTENT["model/weights.bin"]


def test_a_part_of_an_artifact_is_fetched_alone(artifact: Artifact, s3: Proxy) -> None:
    push(artifact.path, "s3://bucket/a")
    copy = local_copy("s3://bucket/a", part="model")
    assert not (copy / "checkpoints").exists()
    assert local_copy("s3://bucket/a/model") == copy / "model"
    assert not [asked for asked in s3.asked if asked.startswith("GET") and "checkpoints" in asked]


def test_a_manifest_that_names_files_outside_of_it_is_refused(artifact: Artifact, s3: Proxy) -> None:
    from megalith.artifacts.manifest import Manifest, Output, outputs_digest, write_manifest

    manifest = Manifest.model_validate_json((artifact.path / "manifest.json").read_bytes())
    outputs = [Output(path="../../evil", bytes=4, sha256="0" * 64)]
    write_manifest(
        artifact.path / "manifest.json",
        manifest.model_copy(update={"outputs": outputs, "digest": outputs_digest(outputs)}),
    )
    s3.put("a/manifest.json", (artifact.path / "manifest.json").read_bytes())
    with pytest.raises(InputError, match="outside of it"):
        local_copy("s3://bucket/a")


def test_a_model_without_a_manifest_is_copied_by_the_tags_of_its_files(s3: Proxy) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        s3.put(f"m/{name}", name.encode())
    copy = local_copy("s3://bucket/m")
    assert (copy / "config.json").read_bytes() == b"config.json"
    assert local_copy("s3://bucket/m/") == copy
    s3.put("m/config.json", b"other.json!")
    assert (local_copy("s3://bucket/m") / "config.json").read_bytes() == b"other.json!"
    assert local_copy("s3://bucket/m") != copy


def test_no_secret_is_in_an_error_or_in_what_is_written(
    artifact: Artifact, s3: Proxy, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("s3://key:secret@bucket/a", "s3://token@bucket/a"):
        for call in (lambda a=address: push(artifact.path, a), lambda a=address: local_copy(a)):
            with pytest.raises(InputError, match="before its @") as caught:
                call()
            assert "secret" not in str(caught.value) and "token" not in str(caught.value)

    async def tells(*_: object, **__: object) -> None:
        raise OSError(f"SignatureDoesNotMatch: {SECRET} signs nothing")

    push(artifact.path, "s3://bucket/a")
    monkeypatch.setattr("s3fs.S3FileSystem._cat_file", tells)
    sys.modules["s3fs"].S3FileSystem.clear_instance_cache()
    with pytest.raises(ResourceError, match="signs nothing") as raised:
        local_copy("s3://bucket/a")
    told = capfd.readouterr()
    written = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    for text in (str(raised.value), told.out, told.err, written.decode("latin-1"), json.dumps(list(s3.objects()))):
        assert SECRET not in text


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("https://example.org/a", UnsupportedError),
        ("hf://user/repository", UnsupportedError),
        ("somewhere", InputError),
        ("ftp://x/y", InputError),
    ],
)
def test_only_stores_that_can_be_written_are(artifact: Artifact, address: str, kind: type[MegalithError]) -> None:
    with pytest.raises(kind):
        push(artifact.path, address)


def test_a_client_that_is_missing_is_named_with_its_extra(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def missing(*_: object, **__: object) -> None:
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(UnsupportedError) as caught:
        push(artifact.path, "gs://bucket/a")
    assert caught.value.mend == "pip install 'megalith[gs]'"


def test_a_digest_of_what_came_is_that_of_what_went(artifact: Artifact, s3: Proxy) -> None:
    push(artifact.path, "s3://bucket/a")
    copy = local_copy("s3://bucket/a", "model")
    assert file_digest(copy / "model/weights.bin") == file_digest(artifact.path / "model/weights.bin")


def test_an_artifact_behind_a_web_server_is_fetched_under_the_rules_of_redirects(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEGALITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(retry, "FIRST_WAIT_SECONDS", 0.001)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with served(artifact.path.parent) as site:
        copy = local_copy(f"{site.address}train", "model")
        assert (copy / "model/weights.bin").read_bytes() == CONTENT["model/weights.bin"]
        assert local_copy(f"{site.address}train/model/") == copy / "model"
        shutil.rmtree(tmp_path / "cache")
        site.moved["/train/model/weights.bin"] = "http://169.254.169.254/latest/meta-data"
        with pytest.raises(ResourceError, match="no public address"):
            local_copy(f"{site.address}train", "model")
        with pytest.raises(InputError, match="neither an artifact nor a model"):
            local_copy(f"{site.address}nothing")
