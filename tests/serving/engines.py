"""The engine, made slow or made to fail."""

import time
from typing import Any

from megalith.inference import Engine, LanguageModel, Sequence, TokenEvent


class SlowEngine(Engine):
    """Waits `pause` seconds in each step, raises `failing` in the next one, and counts what is cancelled."""

    def __init__(self, lm: LanguageModel, **options: Any) -> None:
        super().__init__(lm, **{"kv_bytes": 10**9, **options})
        self.pause = 0.0
        self.failing: Exception | None = None
        self.cancelled = 0
        self.steps = 0

    def cancel(self, sequence: Sequence) -> None:
        self.cancelled += 1
        super().cancel(sequence)

    def step(self) -> list[TokenEvent]:
        time.sleep(self.pause)
        self.steps += 1
        if self.failing is not None:
            error, self.failing = self.failing, None
            raise error
        return super().step()
