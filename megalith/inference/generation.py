"""Text from a language model: the continuations of prompts, whole or as they come.

Each prompt draws with a seed of its own, found from the seed and its place in the list: the text of one prompt does not
depend on the others. A text that reaches the end of the model's context goes on: see `kept_tokens`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from megalith.arithmetic import kv_cache_bytes
from megalith.errors import InputError
from megalith.inference.draws import keyed_hash
from megalith.inference.engine import Engine, TokenEvent, kept_tokens
from megalith.inference.load import LanguageModel
from megalith.inference.sampling import Sampling

BATCH_TOKENS = 8192
"""Tokens whose keys and values are held at a time, or those of one full context."""
_MOST = 64  # sequences at a time


def generate(
    lm: LanguageModel,
    prompts: Sequence[str],
    *,
    tokens: int,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    stop: str | Sequence[str] = (),
    batch_tokens: int = BATCH_TOKENS,
) -> list[str]:
    """The model's continuation of each prompt, without the prompt; for the settings see `Sampling`.

    A text ends before the model's end of text and before the first stop. A prompt longer than the context keeps its
    end: `tokens_cut` counts the rest.

    Raises InputError for a setting out of range, a prompt that is not Unicode text, and a model whose logits are not
    finite.
    """
    if tokens < 0:
        raise InputError(f"{tokens} is out of range.", where="tokens", mend="Set it to 0 or more.")
    sampling = Sampling(
        max_tokens=max(1, tokens),
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )
    texts: list[list[str]] = [[] for _ in prompts]
    for place, event in stream(lm, prompts if tokens else (), sampling, batch_tokens=batch_tokens):
        texts[place].append(event.text)
    return ["".join(pieces) for pieces in texts]


def stream(
    lm: LanguageModel, prompts: Sequence[str], sampling: Sampling, *, batch_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[int, TokenEvent]]:
    """Each token of each continuation as it comes, with the place of its prompt; raises as `generate` does."""
    ids = prompt_ids(lm, prompts)
    limit = kv_cache_bytes(lm.config, max(batch_tokens, lm.config.sequence_length))
    engine = Engine(lm, kv_bytes=limit, max_batch=max(1, min(len(ids), _MOST)), slide=True)
    places = {}
    for place, row in enumerate(ids):
        own = sampling if sampling.seed is None else replace(sampling, seed=keyed_hash(sampling.seed, str(place)))
        places[engine.submit(row, own)] = place
    while engine.waiting or engine.running:
        yield from ((places[event.sequence], event) for event in engine.step())


def prompt_ids(lm: LanguageModel, prompts: Sequence[str]) -> list[list[int]]:
    """The tokens of each prompt with the one that stands before every text. Raises InputError for what is no text."""
    for number, prompt in enumerate(prompts, start=1):
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise InputError("this is not UTF-8 text.", where=f"prompt {number}", mend="Pass the prompt as UTF-8.")
    return [lm.tokenizer.with_prefix(row) for row in lm.tokenizer.encode_batch(prompts)]


def tokens_cut(lm: LanguageModel, prompts: Sequence[str], tokens: int) -> list[int]:
    """How many tokens at the start of each prompt the model does not see, of which `tokens` new ones are wanted."""
    context = lm.config.sequence_length
    return [len(row) - kept_tokens(len(row), tokens, context) for row in prompt_ids(lm, prompts)]


def samples(lm: LanguageModel, prompts: Sequence[str], tokens: int, seed: int) -> list[dict[str, str]]:
    """At most `tokens` tokens after each prompt, for people to read: temperature 0.8, top-k 40 and top-p 0.95."""
    texts = generate(lm, prompts, tokens=tokens, temperature=0.8, top_k=40, top_p=0.95, seed=seed)
    return [{"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts, strict=True)]
