"""The verb: it starts, says where it listens, ends on a signal, and refuses in words."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

import megalith as m
from megalith.errors import InputError, UnsupportedError
from tests.serving.servers import serving as _  # noqa: F401 - skips where the extra is missing


@contextmanager
def started(model: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """The command on a free port, and what it prints."""
    command = [sys.executable, "-m", "megalith", "serve", str(model), "--port", "0", "--json", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            lines = ""
            while not lines.endswith("}\n"):
                line = process.stdout.readline()
                assert line, process.communicate()[1]
                lines += line
            yield process, json.loads(lines)
        finally:
            process.kill()


def post(address: str, **fields: object) -> HTTPConnection:
    connection = HTTPConnection(address.removeprefix("http://"), timeout=30)
    connection.request("POST", "/v1/completions", json.dumps(fields))
    return connection


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_running_requests_finish_and_frees_the_port(
    tmp_path: Path, model_directory: Path, number: signal.Signals
) -> None:
    model = shutil.copytree(model_directory, tmp_path / "of-ours" / "train" / "model")
    with started(model, "--grace", "20") as (process, said):
        assert said["model"] == "of-ours" and said["address"].startswith("http://127.0.0.1:")
        asking = post(said["address"], model="of-ours", prompt="The", max_tokens=28, n=100, temperature=1.9)
        time.sleep(0.1)
        process.send_signal(number)
        answer = asking.getresponse()
        assert answer.status == 200 and len(json.loads(answer.read())["choices"]) == 100
        assert process.wait(20) == 0
        with pytest.raises(ConnectionRefusedError):
            post(said["address"])


def test_a_port_that_is_taken_is_told_before_the_model_is_read(model_directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen at port {port}.*Set another --port"):
            m.serve("nowhere", port=port)
    with pytest.raises(InputError, match=r"--host 203\.0\.113\.5: the server cannot listen"):
        m.serve(model_directory, host="203.0.113.5", port=0)
    with pytest.raises(InputError, match=r"this is not a model"):
        m.serve("nowhere", port=0)


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, model_directory: Path) -> None:
    from megalith.verbs import models

    monkeypatch.setattr(models, "find_spec", lambda name: None if name == "uvicorn" else object())
    with pytest.raises(UnsupportedError, match=r"needs uvicorn, which is not installed.*'megalith\[serve\]'"):
        m.serve(model_directory)


@pytest.mark.parametrize("content", [b"", b" \n", b"two words", b"k\xc3\xa9y", b"a\nb"])
def test_a_key_that_no_header_can_hold_is_refused(tmp_path: Path, model_directory: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(InputError, match="holds no API key") as refused:
        m.serve(model_directory, port=0, api_key_file=tmp_path / "key")
    assert "two words" not in str(refused.value)
