"""Text from a language model: greedy, or drawn at a temperature from the top k and the top p together.

Each prompt draws from a generator of its own, seeded by (seed, its place in the list): the text of one prompt does not
depend on the others. The whole window is read anew for each token; keys and values are not cached.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from megalith.errors import InputError
from megalith.inference.draws import keyed_hash
from megalith.inference.load import LanguageModel, not_finite

LEAST_TEMPERATURE = 1e-6
"""Below it the most likely token is taken, as at 0: fp32 cannot hold logits divided by much less."""


def generate(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    tokens: int,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: str | None = None,
    batch_tokens: int = 8192,
) -> list[str]:
    """The model's continuation of each prompt, without the prompt.

    Temperature 0 always takes the most likely token. `top_k` leaves the k most likely tokens, and `top_p` then the
    smallest set of most likely ones that holds this share of the probability (the nucleus). A text ends before the
    model's end of text and before `stop`. A prompt longer than the context keeps its end: `tokens_cut` counts the rest.

    Raises InputError for a setting out of range, a prompt that is not Unicode text, and a model whose logits are not
    finite.
    """
    _check(prompts, tokens, temperature, top_k, top_p)
    ids = [lm.tokenizer.with_prefix(row) for row in lm.tokenizer.encode_batch(prompts)]
    starts = [len(row) for row in ids]
    generators = [torch.Generator().manual_seed(keyed_hash(seed, str(place))) for place in range(len(prompts))]
    unfinished = sorted(range(len(prompts)), key=lambda place: starts[place])
    for _ in range(tokens):
        still = []
        for batch in _batches(unfinished, ids, lm.config.sequence_length, batch_tokens):
            for place, logits in zip(batch, _next_logits(lm, [ids[place] for place in batch]), strict=True):
                token = choose(logits, temperature, top_k, top_p, generators[place])
                if token in lm.tokenizer.ends:
                    continue
                ids[place].append(token)
                if stop is None or stop not in lm.tokenizer.decode(ids[place][starts[place] :], after_text=True):
                    still.append(place)
        unfinished = still
    texts = [lm.tokenizer.decode(row[start:], after_text=True) for row, start in zip(ids, starts, strict=True)]
    return [text if stop is None else text.split(stop)[0] for text in texts]


def tokens_cut(lm: LanguageModel, prompts: Sequence[str]) -> list[int]:
    """How many tokens at the start of each prompt the model does not see, since its context is shorter."""
    lengths = [len(lm.tokenizer.with_prefix(row)) for row in lm.tokenizer.encode_batch(prompts)]
    return [max(0, length - lm.config.sequence_length) for length in lengths]


def samples(lm: LanguageModel, prompts: Sequence[str], tokens: int, seed: int) -> list[dict[str, str]]:
    """At most `tokens` tokens after each prompt, for people to read: temperature 0.8, top-k 40 and top-p 0.95."""
    texts = generate(lm, prompts, tokens=tokens, temperature=0.8, top_k=40, top_p=0.95, seed=seed)
    return [{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]


def choose(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> int:
    """The next token from its logits (V)."""
    if temperature < LEAST_TEMPERATURE:
        return int(logits.argmax())
    ordered, order = torch.sort(logits / temperature, descending=True, stable=True)  # (V)
    shares = ordered[:top_k].softmax(-1)
    if top_p is not None:
        before = shares.cumsum(-1) - shares
        before[0] = -1.0  # the first is always left
        shares = shares.masked_fill(before >= top_p, 0.0)
    return int(order[torch.multinomial(shares, 1, generator=generator)])


def _check(prompts: Sequence[str], tokens: int, temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise InputError for what cannot be generated."""
    for name, holds, given, mend in (
        ("tokens", tokens >= 0, tokens, "Set it to 0 or more."),
        ("temperature", temperature >= 0 and math.isfinite(temperature), temperature, "Set it to 0 or more."),
        ("top_k", top_k is None or top_k >= 1, top_k, "Set it to 1 or more, or leave it out."),
        ("top_p", top_p is None or 0 <= top_p <= 1, top_p, "Set it between 0 and 1, or leave it out."),
    ):
        if not holds:
            raise InputError(f"{given} is out of range.", where=name, mend=mend)
    for number, prompt in enumerate(prompts, start=1):
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise InputError("this is not UTF-8 text.", where=f"prompt {number}", mend="Pass the prompt as UTF-8.")


def _batches(places: list[int], ids: list[list[int]], limit: int, batch_tokens: int) -> list[list[int]]:
    batches: list[list[int]] = []
    longest = 0
    for place in places:
        longest = max(longest, min(limit, len(ids[place])))
        if batches and (len(batches[-1]) + 1) * longest <= batch_tokens:
            batches[-1].append(place)
        else:
            batches.append([place])
            longest = min(limit, len(ids[place]))
    return batches


@torch.inference_mode()
def _next_logits(lm: LanguageModel, ids: list[list[int]]) -> Tensor:
    """The logits (B, V) after each row, of the tokens that the tokenizer knows."""
    windows = [row[-lm.config.sequence_length :] for row in ids]
    lengths = torch.tensor([len(window) for window in windows])
    tokens = torch.full((len(windows), int(lengths.max())), lm.tokenizer.end_of_text)  # (B, T)
    for row, window in enumerate(windows):
        tokens[row, : len(window)] = torch.tensor(window)
    last = lm.model.features(tokens)[torch.arange(len(windows)), lengths - 1]  # (B, E)
    logits = (last @ lm.model.output_weight[: lm.tokenizer.vocab_size].T).float()
    if not bool(torch.isfinite(logits).all()):
        raise not_finite()
    return logits
