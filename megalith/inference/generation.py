"""Text from a language model: greedy, or drawn at a temperature from the top k and the top p together.

Each prompt draws from a generator of its own, seeded by (seed, its place in the list): the text of one prompt does not
depend on the others. The whole window is read anew for each token; there is no cache of keys and values.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from megalith.inference.draws import keyed_hash
from megalith.inference.load import LanguageModel


def generate(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: str | None = None,
    batch_tokens: int = 8192,
) -> list[str]:
    """What the model writes after each prompt, without the prompt.

    Temperature 0 takes the most likely token, always. `top_k` leaves the k most likely tokens, and `top_p` then the
    smallest set of most likely ones that holds this share of the probability (the nucleus). A text ends before
    <|endoftext|> and before `stop`. A prompt longer than the context keeps its end.
    """
    ids = [[lm.tokenizer.end_of_text, *row] for row in lm.tokenizer.encode_batch(prompts)]
    starts = [len(row) for row in ids]
    generators = [torch.Generator().manual_seed(keyed_hash(seed, str(place))) for place in range(len(prompts))]
    unfinished = sorted(range(len(prompts)), key=lambda place: starts[place])
    for _ in range(max_new_tokens):
        still = []
        for batch in _batches(unfinished, ids, lm.config.sequence_length, batch_tokens):
            for place, logits in zip(batch, _next_logits(lm, [ids[place] for place in batch]), strict=True):
                token = choose(logits, temperature, top_k, top_p, generators[place])
                if token == lm.tokenizer.end_of_text:
                    continue
                ids[place].append(token)
                if stop is None or stop not in lm.tokenizer.decode(ids[place][starts[place] :]):
                    still.append(place)
        unfinished = still
    texts = [lm.tokenizer.decode(row[start:]) for row, start in zip(ids, starts, strict=True)]
    return [text if stop is None else text.split(stop)[0] for text in texts]


def samples(lm: LanguageModel, prompts: Sequence[str], tokens: int, seed: int) -> list[dict[str, str]]:
    """At most `tokens` tokens after each prompt, for people to read: temperature 0.8, top-k 40 and top-p 0.95."""
    texts = generate(lm, prompts, max_new_tokens=tokens, temperature=0.8, top_k=40, top_p=0.95, seed=seed)
    return [{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]


def choose(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> int:
    """The next token from its logits (V)."""
    if temperature == 0:
        return int(logits.argmax())
    ordered, order = torch.sort(logits / temperature, descending=True, stable=True)  # (V)
    shares = ordered[:top_k].softmax(-1)
    if top_p is not None:
        before = shares.cumsum(-1) - shares
        before[0] = -1.0  # the first is always left
        shares = shares.masked_fill(before >= top_p, 0.0)
    return int(order[torch.multinomial(shares, 1, generator=generator)])


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
    return (last @ lm.model.output_weight[: lm.tokenizer.vocab_size].T).float()
