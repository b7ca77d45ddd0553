"""The choice of the next token from its logits: settings, filters, and draws that depend on a seed and a place alone.

Filters come in the order of Hugging Face's: repetition penalty (CTRL, 1909.05858 §4.1), temperature, top-k, top-p
(the nucleus, 1904.09751), min-p (2407.01082). A draw is one uniform number, the hash of the seed and of how many tokens
came before, so that it does not depend on what else is generated; the token is where that number falls in the
cumulative distribution, in float64.
"""

import math
import secrets
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from megalith.errors import InputError
from megalith.inference.draws import keyed_hash

LEAST_TEMPERATURE = 1e-6
"""Below it the most likely token is taken, as at 0: fp32 cannot hold logits divided by much less."""
_LIKELIEST = 256  # tokens in which a nucleus is looked for before all are sorted


@dataclass(frozen=True)
class Sampling:
    """How one sequence is continued. Raises InputError for a setting out of range."""

    max_tokens: int = 16
    temperature: float = 1.0
    """0 (or below 10⁻⁶) takes the most likely token."""
    top_k: int | None = None
    """Keep this many most likely tokens."""
    top_p: float | None = None
    """Keep the fewest most likely tokens that hold this share of the probability that `top_k` left."""
    min_p: float | None = None
    """Keep tokens of at least this share of the most likely one's probability."""
    repetition_penalty: float = 1.0
    """Divides the logits of tokens that the prompt or the text has, where positive, and multiplies the negative."""
    stop: tuple[str, ...] = ()
    """A text ends before the first of these."""
    seed: int | None = None
    """Default: a random one."""
    logprobs: int | None = None
    """Give each token's log-probability, and those of this many most likely tokens; 0 is the token's alone."""

    def __post_init__(self) -> None:
        positive, share = "Set it to 1 or more, or leave it out.", "Set it between 0 and 1, or leave it out."
        for name, holds, mend in (
            ("max_tokens", self.max_tokens >= 1, "Set it to 1 or more."),
            ("temperature", 0 <= self.temperature < math.inf, "Set it to 0 or more."),
            ("top_k", self.top_k is None or self.top_k >= 1, positive),
            ("top_p", self.top_p is None or 0 <= self.top_p <= 1, share),
            ("min_p", self.min_p is None or 0 <= self.min_p <= 1, share),
            ("repetition_penalty", 0 < self.repetition_penalty < math.inf, "Set it above 0; 1 does nothing."),
            ("logprobs", self.logprobs is None or self.logprobs >= 0, "Set it to 0 or more, or leave it out."),
        ):
            if not holds:
                raise InputError(f"{getattr(self, name)} is out of range.", where=name, mend=mend)
        if not all(self.stop):
            raise InputError(
                "an empty text would stop before the first token.", where="stop", mend="Remove it, or give it letters."
            )

    @property
    def is_greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature < LEAST_TEMPERATURE


def random_seed() -> int:
    """A seed that nobody knows beforehand."""
    return secrets.randbits(63)


def choose(logits: Tensor, sampling: Sampling, seen: Collection[int], seed: int, place: int) -> int:
    """The next token from its logits (V), in fp32.

    `seen` are the tokens of the prompt and the text, and `place` counts those of the text.
    """
    if sampling.repetition_penalty != 1.0 and seen:
        logits = penalised(logits, torch.tensor(list(seen), device=logits.device), sampling.repetition_penalty)
    if sampling.is_greedy:
        return int(logits.argmax())
    ids, shares = distribution(logits, sampling)
    reached = shares.cumsum(0)
    uniform = (keyed_hash(seed, str(place)) >> 11) / 2**52  # below 1 by more than a product's rounding
    index = int(torch.searchsorted(reached, uniform * reached[-1], right=True))
    return index if ids is None else int(ids[index])


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """The logits (V) with those of the tokens `seen`, each once, divided by the penalty or, below 0, multiplied."""
    own = logits[seen]
    return logits.index_put((seen,), torch.where(own > 0, own / penalty, own * penalty))


def distribution(logits: Tensor, sampling: Sampling) -> tuple[Tensor | None, Tensor]:
    """The tokens that may be drawn and their shares, in float64, whose sum may be less than 1.

    None for the tokens: all of them, by number.
    """
    scores = logits.double() / sampling.temperature
    ids: Tensor | None = None
    if sampling.top_k is not None:
        scores, ids = scores.topk(min(sampling.top_k, len(scores)))
    shares = scores.softmax(0)
    if sampling.top_p is not None:
        shares, order = _likeliest(shares, sampling.top_p)
        ids = order if ids is None else ids[order]
        before = shares.cumsum(0) - shares
        before[0] = -1.0  # the first is always left
        shares = shares.masked_fill(before >= sampling.top_p, 0.0)
    if sampling.min_p is not None:
        shares = shares.masked_fill(shares < sampling.min_p * shares.max(), 0.0)
    return ids, shares


def _likeliest(shares: Tensor, enough: float) -> tuple[Tensor, Tensor]:
    """Shares in falling order with their places: as many as hold `enough` together, and more."""
    few, places = shares.topk(min(_LIKELIEST, len(shares)))
    if float(few.sum()) > enough:
        return few, places
    every: tuple[Tensor, Tensor] = torch.sort(shares, descending=True, stable=True)
    return every
