"""`megalith serve` under load: one request at a time against 64, then 64 clients of which some misbehave.

A made-up GPT (or `--model DIR`) is served by the command in a process of its own. First one client asks again and
again, then 64 at once: tokens/s of both. Then, twice for `--seconds`, 64 clients of which 8 vanish in the middle of an
answer, 4 read slowly, 3 send garbage and one sends prompts of 10 MB; the others measure the time to the first event and
between events of a stream (an event may hold several tokens). At the end nothing may be lost: every honest request is
answered whole or refused with 429, the cache is empty, and the server's memory is where it was at half time. Exit
code 1 otherwise.

    python benchmarks/serve.py [--seconds 60] [--clients 64] [--model DIR]
"""

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from safetensors.torch import save_file

from megalith.machine import cpu_name, usable_cores
from megalith.model import GPT, initialise
from megalith.recipe import ModelConfig
from megalith.tokens import train_tokenizer

NAME = "model"
WORDS = (
    "the",
    "model",
    "reads",
    "each",
    "token",
    "once",
    "and",
    "writes",
    "another",
    "until",
    "its",
    "context",
    "ends",
)
GARBAGE = (b"\x00\xff" * 2000, b"GET / HTTP/9\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n")
BAD_BODIES = (b"{", b"[" * 50_000, b'{"model": "model", "prompt": 5}', b'{"model": "other", "prompt": "x"}')
GROWTH_BYTES = 100e6
"""Memory that the server may have more at the end than at half time of the clients that misbehave."""


@dataclass
class Seen:
    """Figures of a phase."""

    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    tokens: int = 0
    answered: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    """By client and status, of everything that was asked."""
    lost: list[str] = field(default_factory=list)


def write_model(folder: Path) -> Path:
    """A GPT of 12 million parameters with random weights, and a tokenizer."""
    text = " ".join(random.Random(0).choices(WORDS, k=20_000))
    tokenizer = train_tokenizer([text], 2048)
    config = ModelConfig(vocab_size=2048, num_layers=6, hidden_size=384, num_heads=6, sequence_length=512)
    model = GPT(config)
    initialise(model, config, 1)
    folder.mkdir()
    save_file({name: weight.detach() for name, weight in model.named_parameters()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    tokenizer.save(folder / "tokenizer.json")
    return folder


class Client:
    """Asks one server over HTTP/1.1, a connection for each request."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def send(self, content: bytes, method: str = "POST", path: str = "/v1/completions") -> Any:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        headers = f"Host: localhost\r\nConnection: close\r\nContent-Length: {len(content)}"
        writer.write(f"{method} {path} HTTP/1.1\r\n{headers}\r\n\r\n".encode() + content)
        return reader, writer

    async def status(self, reader: asyncio.StreamReader) -> int:
        status = int((await reader.readline()).split()[1])
        while (await reader.readline()).strip():
            pass
        return status

    async def get(self, path: str) -> str:
        reader, writer = await self.send(b"", "GET", path)
        await self.status(reader)
        text = (await reader.read()).decode()
        writer.close()
        return text

    async def events(self, reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
        """The events of a stream up to its end; ValueError where it ends before."""
        async for line in reader:
            if line.startswith(b"data: [DONE]"):
                return
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
        raise ValueError("the stream has no end")


def body(rng: random.Random, **fields: Any) -> bytes:
    """A request of a random prompt, in length and words."""
    prompt = " ".join(rng.choices(WORDS, k=rng.randint(5, 120)))
    wanted = {"max_tokens": rng.randint(16, 64), "seed": rng.randrange(2**31), "temperature": 1.0}
    return json.dumps({"model": NAME, "prompt": prompt, "stream": True, **wanted, **fields}).encode()


async def honest(client: Client, rng: random.Random, end: float, seen: Seen) -> None:
    """Ask, read, and ask again."""
    while time.perf_counter() < end:
        start = time.perf_counter()
        reader, writer = await client.send(body(rng, stream_options={"include_usage": True}))
        try:
            status = await client.status(reader)
            seen.statuses[f"honest {status}"] += 1
            if status == 429:
                await asyncio.sleep(1)
                continue
            if status != 200:
                raise ValueError(f"status {status}: {(await reader.read())[:200]!r}")
            last, finished = None, False
            async for event in client.events(reader):
                now = time.perf_counter()
                if "error" in event:
                    raise ValueError(event["error"]["message"])
                if event["usage"] is not None:
                    seen.tokens += event["usage"]["completion_tokens"]
                    continue
                finished |= event["choices"][0]["finish_reason"] is not None
                (seen.first if last is None else seen.between).append(now - (start if last is None else last))
                last = now
            if not finished:
                raise ValueError("no reason to finish")
            seen.answered += 1
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            seen.lost.append(f"{type(error).__name__}: {error}")
        finally:
            writer.close()


async def vanishing(client: Client, rng: random.Random, end: float, seen: Seen) -> None:
    """Go away: before the answer, or after a few of its events."""
    while time.perf_counter() < end:
        reader, writer = await client.send(body(rng, n=rng.randint(1, 3), max_tokens=200))
        for _ in range(rng.randint(0, 10)):
            await reader.readline()
        writer.transport.abort()
        seen.statuses["vanished"] += 1
        await asyncio.sleep(rng.random() / 5)


async def slow(client: Client, rng: random.Random, end: float, seen: Seen) -> None:
    """Read a little at a time."""
    while time.perf_counter() < end:
        reader, writer = await client.send(body(rng, n=2, max_tokens=200, logprobs=5))
        while time.perf_counter() < end and await reader.read(200):
            await asyncio.sleep(0.02)
        writer.transport.abort()
        seen.statuses["read slowly"] += 1


async def garbage(client: Client, rng: random.Random, end: float, seen: Seen, *, huge: bool = False) -> None:
    """Send what is no HTTP, no JSON or no request; or prompts of 10 MB."""
    while time.perf_counter() < end:
        try:
            if huge:
                reader, writer = await client.send(body(rng, prompt="word " * 2_000_000))
            elif rng.random() < 0.5:
                reader, writer = await client.send(rng.choice(BAD_BODIES))
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
                writer.write(rng.choice(GARBAGE))
            status = await client.status(reader)
            seen.statuses[f"{'10 MB' if huge else 'garbage'} {status}"] += 1
            writer.close()
        except (OSError, IndexError):
            seen.statuses["garbage: connection closed"] += 1
        await asyncio.sleep(0.2 + rng.random() / 2)


async def phase(client: Client, seconds: float, kinds: list[Any]) -> Seen:
    """All these clients at once; what they have seen."""
    seen, end = Seen(), time.perf_counter() + seconds
    start = time.perf_counter()
    await asyncio.gather(*(kind(client, random.Random(number), end, seen) for number, kind in enumerate(kinds)))
    seen.statuses["seconds"] = round(time.perf_counter() - start)
    return seen


def figures(metrics: str) -> dict[str, float]:
    """The samples of Prometheus' text."""
    lines = [line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def quantiles(values: list[float]) -> str:
    if not values:
        return "–"
    half, most = np.quantile(values, [0.5, 0.99]) * 1000
    return f"p50 {half:.1f} ms, p99 {most:.1f} ms"


async def measure(client: Client, process: psutil.Process, seconds: float, clients: int) -> list[str]:
    """Run the phases and print them; what is wrong."""
    await phase(client, 1, [honest])  # warm
    short = max(2.0, seconds / 6)
    rates = {}
    for name, count in (("one at a time", 1), (f"{clients} at once", clients)):
        before, start = process.cpu_times(), time.perf_counter()
        seen = await phase(client, short, [honest] * count)
        took = time.perf_counter() - start
        after = process.cpu_times()
        used = after.user + after.system - before.user - before.system
        rates[name] = seen.tokens / took
        print(f"{name}: {seen.tokens / took:,.0f} tokens/s, {1000 * used / max(1, seen.tokens):.2f} ms of CPU a token; "
              f"first event {quantiles(seen.first)}; between events {quantiles(seen.between)}")  # fmt: skip
    one, many = rates.values()
    print(f"continuous batching: {many / one:.1f} times the tokens/s of one at a time")
    bad = [vanishing] * (clients // 8) + [slow] * (clients // 16) + [garbage] * max(1, clients // 20)
    bad.append(lambda *given: garbage(*given, huge=True))
    mixed = bad + [honest] * (clients - len(bad))
    await phase(client, seconds, mixed)  # the sizes that its memory comes to hold
    settled = process.memory_info().rss
    seen = await phase(client, seconds, mixed)
    print(f"with clients that misbehave: {seen.answered:,} answered, {seen.tokens:,} tokens; "
          f"first event {quantiles(seen.first)}; between events {quantiles(seen.between)}")  # fmt: skip
    print(", ".join(f"{name}: {count:,}" for name, count in sorted(seen.statuses.items())))
    await asyncio.sleep(2)
    left = figures(await client.get("/metrics"))
    grown = process.memory_info().rss - settled
    print(f"memory: {settled / 1e6:,.0f} MB after {seconds:.0f} s of them, {grown / 1e6:+,.0f} MB at the end")
    wrong = [f"lost: {one}" for one in seen.lost[:5]]
    held = ("megalith_kv_bytes_used", "megalith_sequences_waiting", "megalith_sequences_running")
    wrong += [f"{name} is {left[name]:g} at the end" for name in held if left[name]]
    wrong += [f"answers {name}" for name in left if 'status="5' in name]
    if grown > GROWTH_BYTES:
        wrong.append("the memory has grown")
    if many < 3 * one:
        wrong.append(f"{many / one:.1f} times is less than 3")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--model", type=Path)
    given = parser.parse_args()
    print(f"{cpu_name()}, {usable_cores()} cores; the clients run beside the server")
    with tempfile.TemporaryDirectory() as folder:
        model = given.model or write_model(Path(folder) / "model")
        command = [sys.executable, "-m", "megalith", "serve", str(model), "--port", "0", "--json", "--name", NAME]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                said = "".join(iter(server.stdout.readline, "}\n"))
                port = int(json.loads(said + "}")["address"].rsplit(":", 1)[1])
                wrong = asyncio.run(measure(Client(port), psutil.Process(server.pid), given.seconds, given.clients))
            finally:
                server.terminate()
        if server.returncode:
            wrong.append(f"the server ended with code {server.returncode}")
    for one in wrong:
        print(f"wrong: {one}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
