"""Continuous batching: sequences come and go between forward passes, and each pass reads what every one of them needs.

A step reads one token of each sequence that is generating, and beside them at most `prefill_tokens` of the prompts of
those that have just come (chunked prefill, 2308.16369), so that a long prompt holds nobody up. A sequence is admitted
when the keys and values of all its tokens fit within the limit, first come, first served; none is ever put out again.
An engine belongs to one thread.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from megalith.errors import InputError
from megalith.inference.decoder import Decoder
from megalith.inference.kv_cache import KVCache, Segment
from megalith.inference.load import LanguageModel
from megalith.inference.sampling import Sampling, choose, random_seed
from megalith.inference.streaming import TextStream

LogProbability = tuple[float, tuple[tuple[int, float], ...]]
"""A token's, in nats, and those of the most likely tokens in its place, each with its id."""
_ROWS = 256  # of a prompt whose logits are computed at once


@dataclass(eq=False)
class Sequence:
    """A prompt and what has been generated after it."""

    prompt: tuple[int, ...]
    sampling: Sampling
    seed: int
    """The sampling's, or a random one."""
    tokens: list[int] = field(default_factory=list)
    """The generated ones, the end of text among them."""
    finish: Literal["stop", "length"] | None = None
    prompt_logprobs: list[LogProbability] | None = None
    """For each prompt token but the first, where they were asked for and the prompt has been read."""

    _stream: TextStream = field(init=False, repr=False)
    _seen: set[int] = field(init=False, repr=False)
    _cache: KVCache | None = field(default=None, repr=False)
    _begin: int = field(default=0, repr=False)
    """The first token, of prompt and text, that the cache holds."""
    _read: int = field(default=0, repr=False)
    """Tokens that the cache holds."""

    def _unread(self, at_most: int) -> tuple[int, ...]:
        """The tokens that the cache does not hold yet, up to a number."""
        first = self._begin + self._read
        if first >= len(self.prompt):
            return tuple(self.tokens[first - len(self.prompt) :][:at_most])
        return (*self.prompt[first:], *self.tokens)[:at_most]

    @property
    def _length(self) -> int:
        """Tokens that the cache should hold before the next one is drawn."""
        return len(self.prompt) + len(self.tokens) - self._begin


@dataclass(frozen=True)
class TokenEvent:
    """One token of one sequence."""

    sequence: Sequence
    token: int
    logprob: float | None
    """In nats, of the model's own distribution before any filter; None where none was asked for."""
    top: tuple[tuple[int, float], ...]
    """The most likely tokens in its place with their log-probabilities, as many as asked for."""
    text: str
    """New whole characters; may be empty, since a character or a stop may not be complete."""
    finish: Literal["stop", "length"] | None
    """stop: the end of text, or a stop. length: `max_tokens`, or the end of the model's context."""


class Engine:
    """Generates the continuations of many prompts at a time."""

    def __init__(
        self,
        lm: LanguageModel,
        *,
        kv_bytes: int,
        max_batch: int = 64,
        prefill_tokens: int = 512,
        slide: bool = False,
        decoder: Decoder | None = None,
    ) -> None:
        """Keys and values of all sequences together take at most `kv_bytes`, and at most `max_batch` run at a time.

        With `slide`, a sequence at the end of the context goes on: see `kept_tokens`. Else it ends there. With a
        `decoder` for several ranks, `kv_bytes` are those of one rank, and each rank has an engine that is asked the
        same in the same order.
        """
        self.kv_bytes_limit = kv_bytes
        self.kv_bytes_used = 0
        """Bytes of the caches of the sequences that run."""
        self._lm, self._decoder = lm, decoder or Decoder(lm, max_batch)
        self._context = lm.config.sequence_length
        self._max_batch, self._prefill_tokens, self._slide = max_batch, prefill_tokens, slide
        self._ends = lm.tokenizer.ends
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []

    @property
    def waiting(self) -> int:
        """Sequences that wait for others to end."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Sequences that have their caches."""
        return len(self._running)

    def submit(self, prompt_ids: Iterable[int], sampling: Sampling, *, prompt_logprobs: bool = False) -> Sequence:
        """Queue a prompt. With `prompt_logprobs` its own tokens are scored too.

        Raises InputError for a prompt that is empty, has other ids than the model's or is longer than its context, and
        where its keys and values could never fit.
        """
        prompt = tuple(prompt_ids)
        self._check(prompt, sampling, prompt_logprobs)
        seed = random_seed() if sampling.seed is None else sampling.seed
        sequence = Sequence(prompt, sampling, seed, prompt_logprobs=[] if prompt_logprobs else None)
        sequence._stream = TextStream(self._lm.tokenizer, sampling.stop)
        sequence._seen = set(prompt) if sampling.repetition_penalty != 1.0 else set()
        sequence._begin = len(prompt) - kept_tokens(len(prompt), sampling.max_tokens, self._context)
        self._waiting.append(sequence)
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        """Forget a sequence, and free its cache at once; nothing where it has ended."""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        elif sequence in self._running:
            self._free(sequence)

    def step(self) -> list[TokenEvent]:
        """One forward pass: a token of each sequence whose prompt has been read, and a chunk of the others' prompts.

        Raises InputError where the model's logits are not finite.
        """
        self._admit()
        batch, tokens = self._next_tokens()
        if not batch:
            return []
        features = self._decoder.features(tokens, [segment for _, segment in batch])  # (N, E)
        ready, rows, first = [], [], 0
        for sequence, segment in batch:
            if sequence.prompt_logprobs is not None and len(sequence.prompt_logprobs) < len(sequence.prompt) - 1:
                self._score_prompt(sequence, segment, features[first : first + segment.count])
            first += segment.count
            sequence._read += segment.count
            if sequence._read == sequence._length:
                ready.append(sequence)
                rows.append(first - 1)
        if not ready:
            return []
        return self._draw(ready, self._decoder.logits(features[rows]))

    def _check(self, prompt: tuple[int, ...], sampling: Sampling, prompt_logprobs: bool) -> None:
        if not prompt:
            raise InputError("this prompt has no tokens.", where="prompt")
        vocabulary = self._lm.config.vocab_size
        if not all(0 <= token < vocabulary for token in prompt):
            raise InputError(f"the model's tokens are 0 … {vocabulary - 1}.", where="prompt")
        if len(prompt) > self._context and (prompt_logprobs or not self._slide):
            raise InputError(
                f"this prompt has {len(prompt):,} tokens, and the model's context is {self._context:,}.",
                where="prompt",
                mend="Shorten it.",
            )
        if self._decoder.needs_seeds and sampling.seed is None and not sampling.is_greedy:
            raise InputError(
                "several ranks draw the same tokens only with a seed.", where="seed", mend="Set it to a number."
            )
        wanted = self._decoder.cache_shape.bytes(self._capacity(prompt, sampling))
        if wanted > self.kv_bytes_limit:
            raise InputError(
                f"the keys and values of this prompt and {sampling.max_tokens:,} new tokens take {wanted:,} bytes, and "
                f"the limit is {self.kv_bytes_limit:,}.",
                where="max_tokens",
                mend="Shorten the prompt, ask for fewer tokens, or raise the limit.",
            )

    def _capacity(self, prompt: tuple[int, ...], sampling: Sampling) -> int:
        """Tokens that the sequence's cache can come to hold: the last one drawn is never read."""
        return min(len(prompt) + sampling.max_tokens - 1, self._context)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_batch:
            first = self._waiting[0]
            capacity = self._capacity(first.prompt, first.sampling)
            wanted = self._decoder.cache_shape.bytes(capacity)
            if self.kv_bytes_used + wanted > self.kv_bytes_limit:
                return
            first._cache = KVCache(self._decoder.cache_shape, capacity)
            self.kv_bytes_used += first._cache.bytes
            self._running.append(self._waiting.popleft())

    def _next_tokens(self) -> tuple[list[tuple[Sequence, Segment]], list[int]]:
        """The segments of the next forward pass, and all their tokens."""
        batch: list[tuple[Sequence, Segment]] = []
        tokens: list[int] = []
        left = self._prefill_tokens
        for sequence in sorted(self._running, key=lambda one: one._length - one._read > 1):  # single tokens first
            assert sequence._cache is not None
            unread = sequence._unread(max(1, left))
            if sequence._length - sequence._read > 1:  # a prompt, or the part of a text that is read again
                if left == 0:
                    continue
                left -= len(unread)
            batch.append((sequence, Segment(sequence._cache, sequence._read, len(unread))))
            tokens += unread
        return batch, tokens

    def _score_prompt(self, sequence: Sequence, segment: Segment, features: Tensor) -> None:
        """Add the log-probabilities of the prompt's tokens that follow those of this segment."""
        assert sequence.prompt_logprobs is not None
        following = sequence.prompt[segment.start + 1 : segment.start + 1 + segment.count]
        for rows, targets in zip(torch.split(features, _ROWS), _split(following, _ROWS), strict=False):
            logits = self._decoder.logits(rows[: len(targets)])
            sequence.prompt_logprobs += _log_probabilities(
                logits, targets, sequence.sampling.logprobs or 0, self._lm.tokenizer.vocab_size
            )

    def _draw(self, ready: list[Sequence], logits: Tensor) -> list[TokenEvent]:
        """A token of each sequence from its logits (N, V)."""
        known = self._lm.tokenizer.vocab_size  # the model may have more rows than the tokenizer has tokens
        likeliest: list[int] = logits[:, :known].argmax(-1).tolist()
        events = []
        for row, (sequence, token) in enumerate(zip(ready, likeliest, strict=True)):
            sampling = sequence.sampling
            if not sampling.is_greedy or sampling.repetition_penalty != 1.0:
                token = choose(logits[row, :known], sampling, sequence._seen, sequence.seed, len(sequence.tokens))
            own: LogProbability | None = None
            if sampling.logprobs is not None:
                (own,) = _log_probabilities(logits[row : row + 1], [token], sampling.logprobs, known)
            events.append(self._take(sequence, token, own))
        return events

    def _take(self, sequence: Sequence, token: int, own: LogProbability | None) -> TokenEvent:
        """Add a token to its sequence."""
        sequence.tokens.append(token)
        if sequence.sampling.repetition_penalty != 1.0:
            sequence._seen.add(token)
        text, stopped = ("", False) if token in self._ends else sequence._stream.push(token)
        if token in self._ends or stopped:
            sequence.finish = "stop"
        elif len(sequence.tokens) == sequence.sampling.max_tokens or not self._has_room(sequence):
            sequence.finish = "length"
        if sequence.finish is not None:
            if not stopped:
                rest, stopped = sequence._stream.finish()
                text += rest
                sequence.finish = "stop" if stopped else sequence.finish
            self._free(sequence)
        logprob, top = own or (None, ())
        return TokenEvent(sequence, token, logprob, top, text, sequence.finish)

    def _has_room(self, sequence: Sequence) -> bool:
        """Whether the context has a place for the sequence's last token; a sliding one makes it."""
        if sequence._length <= self._context:
            return True
        if self._slide:
            left = sequence.sampling.max_tokens - len(sequence.tokens)
            kept = kept_tokens(sequence._length, left, self._context)
            sequence._begin += sequence._length - kept
            sequence._read = 0
        return self._slide

    def _free(self, sequence: Sequence) -> None:
        assert sequence._cache is not None
        self._running.remove(sequence)
        self.kv_bytes_used -= sequence._cache.bytes
        sequence._cache = None


def kept_tokens(length: int, wanted: int, context: int) -> int:
    """How many of the last tokens are read of a text of this length, of which so many more tokens are wanted.

    All that fit in the context. Of a longer text, as many as leave room for those that are wanted, but at least half of
    the context: reading them again is then seldom.
    """
    if length <= context:
        return length
    return max(context + 1 - wanted, context // 2, 1)


def _log_probabilities(logits: Tensor, targets: Iterable[int], top: int, known: int) -> list[LogProbability]:
    """The log-probability of each target (N) and the `top` most likely tokens, of logits (N, V)."""
    ids = torch.tensor(list(targets)).unsqueeze(1)
    whole = logits.logsumexp(-1, keepdim=True)  # (N, 1)
    own = (logits.gather(1, ids) - whole)[:, 0].tolist()
    if top == 0:
        return [(each, ()) for each in own]
    values, places = logits[:, :known].topk(min(top, known))
    rows = zip(places.tolist(), (values - whole).tolist(), strict=True)
    return [(each, tuple(zip(*row, strict=True))) for each, row in zip(own, rows, strict=True)]


def _split(items: tuple[int, ...], size: int) -> list[tuple[int, ...]]:
    return [items[at : at + size] for at in range(0, len(items), size)]
