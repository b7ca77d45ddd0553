"""Figures for Prometheus, by its own client library: latencies, tokens, the queue and the cache."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from megalith.serving.engine_thread import EngineThread

_FIRST_TOKEN = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_NEXT_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]


class Metrics:
    """The figures of one server, in a registry of their own."""

    def __init__(self, engine: EngineThread) -> None:
        self._registry = registry = CollectorRegistry()
        self.answers = Counter(
            "megalith_requests", "Requests by route and status.", ["route", "status"], registry=registry
        )
        self.abandoned = Counter("megalith_requests_abandoned", "Requests whose client went away.", registry=registry)
        self.prompt_tokens = Counter("megalith_prompt_tokens", "Tokens of prompts.", registry=registry)
        self.generated_tokens = Counter(
            "megalith_generated_tokens", "Tokens that the model has drawn.", registry=registry
        )
        self.first_token = Histogram(
            "megalith_time_to_first_token_seconds",
            "From the end of a request's body to the first token of a choice.",
            buckets=_FIRST_TOKEN,
            registry=registry,
        )
        self.next_token = Histogram(
            "megalith_time_between_tokens_seconds",
            "Between two tokens of a choice.",
            buckets=_NEXT_TOKEN,
            registry=registry,
        )
        for name, says, of in (
            ("megalith_sequences_waiting", "Sequences that wait for their cache.", lambda: engine.load.waiting),
            ("megalith_sequences_running", "Sequences in the batch.", lambda: engine.load.running),
            ("megalith_kv_bytes_used", "Bytes of keys and values in use.", lambda: engine.load.kv_bytes_used),
            (
                "megalith_kv_bytes_limit",
                "Bytes of keys and values that may be used.",
                lambda: engine.load.kv_bytes_limit,
            ),
        ):
            Gauge(name, says, registry=registry).set_function(of)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        made: bytes = generate_latest(self._registry)
        return made
