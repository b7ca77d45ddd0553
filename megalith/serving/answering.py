"""From a request for text to its answer: read, admitted, given to the engine, and sent as tokens come in."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from megalith.inference import LanguageModel, Sampling
from megalith.serving.choices import Piece
from megalith.serving.engine_thread import EngineThread
from megalith.serving.errors import ApiError, engine_ended, out_of_time, stopping, too_busy, too_many_numbers
from megalith.serving.exchange import Bodies, Exchange, GoneError, to_json
from megalith.serving.forms import ChatForm, CompletionForm
from megalith.serving.metrics import Metrics
from megalith.serving.prompts import encode, encode_conversation, tokens_allowed
from megalith.serving.requests import ChatRequest, CompletionRequest, read
from megalith.serving.running import Asked, Running
from megalith.serving.settings import Settings
from megalith.serving.spelling import Spelling

MOST_NUMBERS = 1_000_000
"""Log-probabilities in one answer: some 100 MB while it is made."""


class Answering:
    """Answers requests for text by one engine, within the server's limits."""

    def __init__(
        self, lm: LanguageModel, engine: EngineThread, bodies: Bodies, metrics: Metrics, settings: Settings
    ) -> None:
        self._lm = lm
        self._engine = engine
        self._bodies = bodies
        self._metrics = metrics
        self._settings = settings
        self._spelling = Spelling(lm.tokenizer)
        self._taken = 0
        self._ended = asyncio.Event()
        self.stopping = False
        """Whether further requests are refused."""

    def end(self) -> None:
        """Have every unfinished request answer that the server stops."""
        self._ended.set()

    async def completions(self, exchange: Exchange) -> None:
        """Answer `/v1/completions`."""
        await self._within_time(exchange, self._completion)

    async def chat(self, exchange: Exchange) -> None:
        """Answer `/v1/chat/completions`."""
        await self._within_time(exchange, self._conversation)

    async def _within_time(self, exchange: Exchange, understand: Callable[[bytes], Asked]) -> None:
        if self.stopping:
            raise stopping()
        if not self._engine.alive:
            raise engine_ended()
        limit = self._settings.time_limit_seconds
        try:
            async with asyncio.timeout(limit):
                async with self._bodies.read(exchange) as data:
                    arrived = time.monotonic()
                    asked = await asyncio.to_thread(understand, data)
                asked.arrived = arrived
                if asked.numbers > MOST_NUMBERS:
                    raise too_many_numbers(asked.numbers, MOST_NUMBERS)
                with self._places(asked.choices):
                    await self._unless_gone(exchange, self._answer(asked, exchange))
        except TimeoutError:
            raise out_of_time(limit) from None

    def _completion(self, data: bytes) -> Asked:
        request = read(CompletionRequest, data)
        self.check_model(request.model)
        prompts = encode(self._lm, request)
        wanted = tokens_allowed(self._lm, prompts, request.max_tokens, param="prompt")
        return Asked(
            form=CompletionForm(request.model, self._spelling, logprobs=request.logprobs is not None),
            prompts=prompts,
            n=request.n,
            sampling=_sampling(request, wanted, request.logprobs),
            wanted=wanted,
            echo=request.echo,
            stream=request.stream,
            include_usage=request.include_usage,
        )

    def _conversation(self, data: bytes) -> Asked:
        request = read(ChatRequest, data)
        self.check_model(request.model)
        prompts = encode_conversation(self._lm, request)
        wanted = tokens_allowed(self._lm, prompts, request.token_limit, param="messages")
        return Asked(
            form=ChatForm(request.model, self._spelling, logprobs=request.logprobs),
            prompts=prompts,
            n=request.n,
            sampling=_sampling(request, wanted, (request.top_logprobs or 0) if request.logprobs else None),
            wanted=wanted,
            echo=False,
            stream=request.stream,
            include_usage=request.include_usage,
        )

    def check_model(self, name: str) -> None:
        """Raise ApiError (404) for a model that is not the one served."""
        if name != self._settings.name:
            served = self._settings.name
            raise ApiError(
                404,
                f"The model '{name[:100]}' is not served here: use '{served}'.",
                param="model",
                code="model_not_found",
            )

    @contextmanager
    def _places(self, choices: int) -> Iterator[None]:
        if self._taken + choices > self._settings.max_choices and self._taken > 0:
            raise too_busy()
        self._taken += choices
        try:
            yield
        finally:
            self._taken -= choices

    async def _unless_gone(self, exchange: Exchange, answering: Coroutine[Any, Any, None]) -> None:
        """Answer until the client goes away, or the server ends."""
        work = asyncio.ensure_future(answering)
        gone = asyncio.ensure_future(exchange.gone())
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({work, gone, ended}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise GoneError if gone.done() else stopping()
        finally:
            for task in (work, gone, ended):
                task.cancel()
            await asyncio.gather(work, gone, ended, return_exceptions=True)

    async def _answer(self, asked: Asked, exchange: Exchange) -> None:
        running = Running(asked, self._engine, self._spelling, self._metrics, self._lm.tokenizer.ends)
        try:
            if asked.stream:
                await _stream(asked, running, exchange)
            else:
                await _whole(asked, running, exchange)
        finally:
            running.close()


async def _whole(asked: Asked, running: Running, exchange: Exchange) -> None:
    made = [Piece() for _ in running.choices]
    async for pieces in running.pieces():
        for index, piece in pieces.items():
            made[index] += piece
    await exchange.json(asked.form.whole(made, running.usage()))


async def _stream(asked: Asked, running: Running, exchange: Exchange) -> None:
    more = {"usage": None} if asked.include_usage else {}
    begun: set[int] = set()
    async for pieces in running.pieces():
        for index, piece in pieces.items():
            if piece.text or piece.tokens or piece.finish is not None:
                for chunk in asked.form.chunks(index, piece, first=index not in begun):
                    await exchange.event(to_json(chunk | more))
                begun.add(index)
    if asked.include_usage:
        await exchange.event(to_json(asked.form.usage_chunk(running.usage())))
    await exchange.event(b"[DONE]", last=True)


def _sampling(request: CompletionRequest | ChatRequest, wanted: int, logprobs: int | None) -> Sampling:
    return Sampling(
        max_tokens=max(1, wanted),
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=None if request.top_p == 1 else request.top_p,
        min_p=request.min_p,
        repetition_penalty=request.repetition_penalty,
        stop=request.stops,
        seed=request.seed,
        logprobs=logprobs,
    )
