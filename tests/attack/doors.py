"""The doors to other programs, fuzzed: foreign models, requests to be scored, laws, evaluations, and a running server.

Each begins from what a finished expedition gives (its model exported as a Hugging Face directory and as GGUF, its
evaluation, its checkpoints), changes one file, and runs the verb that takes such files in.
"""

import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.attack.cases import Found, Verdict, judge
from tests.attack.command import Ended, run
from tests.attack.materials import Materials
from tests.attack.mutate import STRANGE, change_bytes, change_text, change_value
from tests.attack.recipes import only_json

PART = "doors"
CPU_SECONDS = 120
REQUEST_SECONDS = 60.0
MEGALITH = "from megalith.cli import main; main()"
PATHS = ("/v1/completions", "/v1/chat/completions", "/v1/models", "/tokenize", "/metrics", "/", "/v1/completions/x")
COMPLETION: dict[str, Any] = {"model": "x", "prompt": "the house", "max_tokens": 3, "temperature": 0.5, "top_p": 0.9,
                              "stop": ["x"], "logprobs": 2, "n": 1, "seed": 1, "stream": False}  # fmt: skip
REQUEST = {"id": "1", "context": "the house", "choices": [" was", " had been there"]}
RUNS = "parameters,tokens,loss\n" + "\n".join(
    f"{n:.4g},{d:.4g},{1.7 + 406 / n**0.34 + 410 / d**0.28:.6g}"
    for n in (1e7, 4e7, 1.6e8, 6.4e8)
    for d in (1e9, 4e9, 1.6e10)
)


class Doors:
    """The cases of this part."""

    def __init__(self, materials: Materials) -> None:
        self.materials = materials
        self.train = materials.base / "train"
        self.hf, self.gguf, self.law = (materials.home / name for name in ("exported-hf", "exported-gguf", "law.json"))
        self._once(self.hf, ["export", str(self.train), "--to", "hf", "--output", str(self.hf)])
        self._once(self.gguf, ["export", str(self.train), "--to", "gguf", "--output", str(self.gguf)])
        (materials.home / "runs.csv").write_text(RUNS)
        self._once(self.law, ["scaling", "fit", "runs.csv", "--output", str(self.law)])
        self.kinds: dict[str, Callable[[random.Random, Path], list[str]]] = {
            "import, Hugging Face": self._import_hf,
            "import, GGUF": self._import_gguf,
            "requests to score": self._score,
            "a law": self._predict,
            "evaluations to compare": self._compare,
            "checkpoints to average": self._average,
            "a model to export": self._export,
        }

    def _once(self, made: Path, argv: list[str]) -> None:
        if made.exists():
            return
        ended = run(argv, self.materials.home, cpu_seconds=300, wall_seconds=1200)
        if ended.code:
            raise RuntimeError(f"megalith {' '.join(argv)} ended with {ended.code}: {ended.said[-3000:]}")

    def __call__(self, number: int, dice: random.Random, room: Path) -> Found:
        names = [*self.kinds, "requests to a server"]
        kind = names[number % len(names)]
        if kind == "requests to a server":
            return self._serve(number, dice, room)
        argv = [*self.kinds[kind](dice, room), "--json"]
        ended = run(argv, room, cpu_seconds=CPU_SECONDS, wall_seconds=900)
        verdict, detail = judge(ended, only_json)
        if verdict == "right" and kind == "requests to score":
            verdict, detail = self._all_scored(room)
        if verdict == "refused" and (room / "out").exists():
            verdict, detail = "wrong", f"refused, and out is left behind: {detail}"
        return Found(PART, kind, number, verdict, detail[:1500], tuple(map(ascii, argv)))

    def _change(self, path: Path, dice: random.Random) -> None:
        """Change a file by value where it is JSON, else by bytes; sometimes take it away or make it something else."""
        which = dice.random()
        if which < 0.05:
            path.unlink()
        elif which < 0.1:
            path.unlink()
            path.mkdir()
        elif path.suffix == ".json" and which < 0.7:
            changed = change_value(json.loads(path.read_text()), dice, STRANGE)
            path.write_bytes(json.dumps(changed).encode("utf-8", errors="surrogatepass"))
        elif path.suffix in (".json", ".jsonl", ".csv") and which < 0.9:
            path.write_bytes(change_text(path.read_text(), dice).encode("utf-8", errors="surrogatepass"))
        else:
            path.write_bytes(change_bytes(path.read_bytes(), dice))

    def _one_file(self, directory: Path, dice: random.Random) -> None:
        files = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.stat().st_size]
        self._change(dice.choice(files), dice)

    def _import_hf(self, dice: random.Random, room: Path) -> list[str]:
        shutil.copytree(self.hf, room / "model")
        self._one_file(room / "model", dice)
        return ["import", "model", "--output", "out"]

    def _import_gguf(self, dice: random.Random, room: Path) -> list[str]:
        file = dice.choice(sorted(self.gguf.rglob("*.gguf")))
        data = file.read_bytes()
        head = dice.choice((200, 2_000, 20_000, len(data)))  # what says where the tensors lie stands at the beginning
        (room / "model.gguf").write_bytes(change_bytes(data[:head], dice) + data[head:])
        return ["import", "model.gguf", "--output", "out"]

    def _score(self, dice: random.Random, room: Path) -> list[str]:
        lines = [json.dumps({**REQUEST, "id": str(place)}) for place in range(6)]
        place = dice.randrange(6)
        if dice.random() < 0.7:
            lines[place] = json.dumps(change_value(json.loads(lines[place]), dice, STRANGE))
        else:
            lines[place] = change_text(lines[place], dice)
        text = "\n".join(lines) + "\n"
        (room / "requests.jsonl").write_bytes(text.encode("utf-8", errors="surrogatepass"))
        more = dice.choice(([], ["--too-long", "error"], ["--batch-invariant"], ["--prefix", "bos"]))
        return ["score", str(self.train), "requests.jsonl", "--output", "scores.jsonl", *more]

    def _all_scored(self, room: Path) -> tuple[Verdict, str]:
        asked = [line for line in (room / "requests.jsonl").read_text(errors="replace").split("\n") if line.strip()]
        told = (room / "scores.jsonl").read_text().splitlines()
        return ("right", "") if len(told) == len(asked) else ("wrong", f"{len(told)} scores of {len(asked)} requests")

    def _predict(self, dice: random.Random, room: Path) -> list[str]:
        shutil.copy(self.law, room / "law.json")
        self._change(room / "law.json", dice)
        return ["scaling", "predict", "law.json", "--flops", dice.choice(("1e20", "1e308", "1", "1e-9"))]

    def _compare(self, dice: random.Random, room: Path) -> list[str]:
        shutil.copytree(self.materials.base / "evaluate", room / "a")
        shutil.copytree(self.materials.other / "evaluate", room / "b")
        self._one_file(room / dice.choice("ab"), dice)
        return ["compare", "a", "b"]

    def _average(self, dice: random.Random, room: Path) -> list[str]:
        shutil.copytree(self.train, room / "train")
        steps = sorted((room / "train" / "checkpoints").glob("step-*"))
        self._one_file(dice.choice([*steps, room / "train"]), dice)
        models = ["train", "--last", "2"] if dice.random() < 0.5 else [f"train/checkpoints/{one.name}" for one in steps]
        return ["average", *models, "--output", "out"]

    def _export(self, dice: random.Random, room: Path) -> list[str]:
        shutil.copytree(self.train, room / "train")
        self._one_file(room / "train" / dice.choice(("model", "model", "checkpoints")), dice)
        return ["export", "train", "--to", dice.choice(("hf", "gguf")), "--output", "out"]

    def _serve(self, number: int, dice: random.Random, room: Path) -> Found:
        """Twenty requests to one server, which must answer each, say why it refuses, be there at the end, and leave."""
        argv = [sys.executable, "-c", MEGALITH, "serve", str(self.train), "--port", "0", "--json"]
        repository = str(Path(__file__).resolve().parents[2])
        with (room / "err").open("wb") as err:
            server = subprocess.Popen(
                argv, cwd=room, stdout=subprocess.PIPE, stderr=err, env={**os.environ, "PYTHONPATH": repository},
                start_new_session=True,
            )  # fmt: skip
        try:
            port = self._port(server)
            complaint = self._ask(port, dice)
            server.send_signal(signal.SIGINT)
            code = server.wait(REQUEST_SECONDS)
            said = (room / "err").read_text(errors="replace")
            verdict, detail = judge(Ended(code, "", said, False, False, 0, 0, ()))
            if complaint:
                verdict, detail = "wrong", complaint
        except (TimeoutError, subprocess.TimeoutExpired) as fault:
            verdict, detail = "hang", str(fault)
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
        return Found(PART, "requests to a server", number, verdict, detail[:1500])

    def _port(self, server: "subprocess.Popen[bytes]") -> int:
        """The port in the address that the server prints when it is ready."""
        assert server.stdout is not None
        told = ""
        for line in server.stdout:
            told += line.decode()
            found = re.search(r'"address": "http://[^"]*:(\d+)', told)
            if found:
                return int(found[1])
        raise TimeoutError(f"the server told no port: {told!r}")

    def _ask(self, port: int, dice: random.Random) -> str | None:
        """The first complaint, if any."""
        for _ in range(20):
            if dice.random() < 0.15:
                self._rudely(port, dice)
                continue
            body = json.dumps(change_value(COMPLETION, dice, STRANGE)).encode("utf-8", errors="surrogatepass")
            if dice.random() < 0.3:
                body = change_bytes(body, dice)
            path = PATHS[0] if dice.random() < 0.6 else dice.choice(PATHS)
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS)
            try:
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
            except http.client.HTTPException as fault:
                return f"{path} {body[:300]!r}: no answer: {fault!r}"
            finally:
                connection.close()
            if answer.status >= 500:
                return f"{path} {body[:300]!r}: {answer.status} {text[:300]!r}"
            if (
                answer.status >= 400
                and path.startswith("/v1/c")
                and not json.loads(text).get("error", {}).get("message")
            ):
                return f"{path} {body[:300]!r}: {answer.status} without a message: {text[:300]!r}"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS)
        connection.request("GET", "/v1/models")
        return None if connection.getresponse().status == 200 else "it does not tell its models any more"

    def _rudely(self, port: int, dice: random.Random) -> None:
        """Bytes that are no request, or a request whose sender leaves."""
        whole = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 400\r\n\r\n" + b'{"prompt": "x'
        with socket.create_connection(("127.0.0.1", port), REQUEST_SECONDS) as one:
            one.sendall(dice.choice((whole, change_bytes(whole, dice), dice.randbytes(500), b"")))
            time.sleep(0.02)
