"""The choices of one request, while the engine works at them."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field, replace

from megalith.inference import Sampling, keyed_hash
from megalith.serving.choices import Choice, Piece
from megalith.serving.engine_thread import EngineThread, Update, Work
from megalith.serving.errors import ApiError
from megalith.serving.forms import ChatForm, CompletionForm
from megalith.serving.metrics import Metrics
from megalith.serving.prompts import Prompt
from megalith.serving.spelling import Spelling


@dataclass
class Asked:
    """A request that can be answered."""

    form: CompletionForm | ChatForm
    prompts: Sequence[Prompt]
    n: int
    sampling: Sampling
    wanted: int
    """Tokens of each choice that are asked for."""
    echo: bool
    stream: bool
    include_usage: bool
    arrived: float = field(default_factory=time.monotonic)
    """When the body had come."""

    @property
    def choices(self) -> int:
        """Sequences that the engine is to run."""
        return len(self.prompts) * self.n

    @property
    def numbers(self) -> int:
        """Log-probabilities in the answer, at most."""
        if self.sampling.logprobs is None:
            return 0
        echoed = sum(len(prompt.ids) for prompt in self.prompts) if self.echo else 0
        return self.n * (echoed + len(self.prompts) * self.wanted) * (1 + self.sampling.logprobs)


class Running:
    """The choices of one request, while the engine works at them."""

    def __init__(
        self, asked: Asked, engine: EngineThread, spelling: Spelling, metrics: Metrics, ends: Collection[int]
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._updates: asyncio.Queue[tuple[int, Update]] = asyncio.Queue()
        self._asked = asked
        self._last: dict[int, float] = {}
        self.choices: list[Choice] = []
        self._works: list[Work] = []
        for prompt in asked.prompts:
            metrics.prompt_tokens.inc(len(prompt.ids))
            for number in range(asked.n):
                self.choices.append(Choice(spelling, prompt.shown, echo=asked.echo, wanted=asked.wanted, ends=ends))
                self._works.append(self._work(prompt, number, len(self._works)))
        for work in self._works:
            engine.submit(work)

    def _work(self, prompt: Prompt, number: int, index: int) -> Work:
        seed = self._asked.sampling.seed
        sampling = self._asked.sampling
        if seed is not None and number:
            sampling = replace(sampling, seed=keyed_hash(seed, str(number)))
        wants = self._asked.echo and sampling.logprobs is not None
        return Work(prompt.ids, sampling, wants, lambda update: self._receive(index, prompt.hidden, update))

    def _receive(self, index: int, hidden: int, update: Update) -> None:
        if not isinstance(update, ApiError):
            event, known = update
            update = (event, None if known is None else known[hidden:])
            now = time.monotonic()
            last = self._last.get(index)
            if last is None:
                self._metrics.first_token.observe(now - self._asked.arrived)
            else:
                self._metrics.next_token.observe(now - last)
            self._last[index] = now
            self._metrics.generated_tokens.inc()
        self._updates.put_nowait((index, update))

    async def pieces(self) -> AsyncIterator[dict[int, Piece]]:
        """Yield what has come of each choice since the last time, until all are finished.

        Raises ApiError where one has failed.
        """
        unfinished = len(self.choices)
        while unfinished:
            come = [await self._updates.get()]
            while not self._updates.empty():
                come.append(self._updates.get_nowait())
            pieces: dict[int, Piece] = {}
            for index, update in come:
                if isinstance(update, ApiError):
                    raise update
                choice = self.choices[index]
                if index not in pieces:
                    pieces[index] = Piece()
                pieces[index] += choice.add(*update)
                unfinished -= choice.finished
            yield pieces

    def usage(self) -> dict[str, int]:
        """Tokens of the prompts and of the choices."""
        read_tokens = sum(len(prompt.shown) for prompt in self._asked.prompts)
        drawn = sum(choice.drawn for choice in self.choices)
        return {"prompt_tokens": read_tokens, "completion_tokens": drawn, "total_tokens": read_tokens + drawn}

    def close(self) -> None:
        """Free what the engine still holds."""
        for work, choice in zip(self._works, self.choices, strict=True):
            if not choice.finished:
                self._engine.cancel(work)
        self._works.clear()  # each of them holds this object
