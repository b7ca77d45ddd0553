"""A conversation with a model: what was said, and the answers as they come.

The whole conversation is read for each answer. One that no longer fits in the context loses its oldest turns, but for
the system's message.
"""

from collections.abc import Generator
from dataclasses import replace

from megalith.arithmetic import kv_cache_bytes
from megalith.errors import InputError
from megalith.inference.chat import Message, encode_chat
from megalith.inference.draws import keyed_hash
from megalith.inference.engine import Engine
from megalith.inference.load import LanguageModel
from megalith.inference.sampling import Sampling


class Conversation:
    """A model that answers, and the messages so far."""

    def __init__(self, lm: LanguageModel, sampling: Sampling, system: str | None = None) -> None:
        """Raises InputError where the model has no chat template, or its template no place for the system's message."""
        self.messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self.forgotten = 0
        """Messages that no longer fit, and are not read any more."""
        self._lm, self._sampling = lm, sampling
        self._engine = Engine(lm, kv_bytes=kv_cache_bytes(lm.config, lm.config.sequence_length), max_batch=1)
        encode_chat(lm.tokenizer, [*self.messages, {"role": "user", "content": "?"}])

    def answer(self, text: str) -> Generator[str, None, None]:
        """The answer to `text`, piece by piece; what has come until the caller stops is remembered.

        Raises InputError for a message that does not fit in the context by itself.
        """
        turn = len(self.messages)
        self.messages.append({"role": "user", "content": text})
        try:
            ids = self._fitting()
        except InputError:
            self.messages.pop()
            raise
        seed = self._sampling.seed
        own = self._sampling if seed is None else replace(self._sampling, seed=keyed_hash(seed, str(turn)))
        sequence = self._engine.submit(ids, own)
        said: list[str] = []
        try:
            while sequence.finish is None:
                for event in self._engine.step():
                    said.append(event.text)
                    if event.text:
                        yield event.text
        finally:
            self._engine.cancel(sequence)
            self.messages.append({"role": "assistant", "content": "".join(said)})

    def _fitting(self) -> list[int]:
        """The tokens of the conversation without its oldest turns, so that half of the context is left for an answer,
        or as much as may be asked for."""
        context = self._lm.config.sequence_length
        room = context - min(self._sampling.max_tokens, context // 2)
        fixed = 1 if self.messages[0]["role"] == "system" else 0
        while True:
            kept = [*self.messages[:fixed], *self.messages[fixed + self.forgotten :]]
            ids = encode_chat(self._lm.tokenizer, kept)
            if len(ids) <= room:
                return ids
            if len(kept) <= fixed + 1:
                raise InputError(
                    f"this message takes {len(ids):,} tokens, and the model's context of {context:,} has {room:,} "
                    "beside the answer.",
                    where="message",
                    mend="Shorten it.",
                )
            self.forgotten += 2  # a question and its answer
