"""A trained model: loaded, asked to write, and served."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from megalith.console import note
from megalith.errors import InputError, UnsupportedError
from megalith.input_files import parse_json, read_text
from megalith.processes import return_freed_memory
from megalith.recipe import Overrides, shipped_recipes
from megalith.verbs.arguments import Place, RecipeSource, directory_of, load

if TYPE_CHECKING:
    from megalith.inference import Conversation, LanguageModel, TokenEvent


@dataclass(frozen=True)
class Continuation:
    """A prompt, and the text that a model wrote after it."""

    prompt: str
    text: str
    """Without the prompt."""
    finish: Literal["stop", "length"] = "length"
    """stop: the model ended the text, or a stop did. length: it has as many tokens as were asked for."""
    tokens: "tuple[TokenLogprob, ...] | None" = None
    """Where log-probabilities were asked for."""


@dataclass(frozen=True)
class TokenLogprob:
    """A generated token."""

    id: int
    text: str
    """Its bytes as text, U+FFFD where they are not whole characters."""
    logprob: float
    """In nats, of the model's own distribution."""
    top: tuple[tuple[int, float], ...]
    """The most likely tokens in its place, as many as asked for, with their log-probabilities."""


def load_model(directory: Place) -> "LanguageModel":
    """The model of a train artifact (runs/NAME/train) or of its `model` directory, in fp32 on the CPU."""
    from megalith.inference import load_model as load_from

    return load_from(Path(directory))


def generate(
    recipe: RecipeSource,
    prompt: str | Sequence[str] = "",
    *,
    overrides: Overrides = (),
    prompts: Place | None = None,
    tokens: int = 100,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = 0.95,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop: Sequence[str] = (),
    seed: int | None = None,
    logprobs: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    model: Place | None = None,
    output: Place | None = None,
    advance: Callable[[int, str], object] | None = None,
) -> list[Continuation]:
    """Text after each prompt by the expedition's model, or by the one in the directory `model`.

    A model's directory, or its address, may stand in the recipe's place.

    The file `prompts` has more of them, one a line, or JSON lines with a `prompt`. Temperature 0 takes the most likely
    token. `top_k` keeps the likeliest tokens, `top_p` then the fewest that hold this share of the probability, `min_p`
    those of at least this share of the likeliest one's. `repetition_penalty` above 1 makes tokens that the text has
    less likely. A text ends before the first of `stop`. `logprobs` gives each token's log-probability, and that many
    alternatives. `seed` is the recipe's unless it is set (0 without a recipe). `advance` is called with the place of a
    prompt and its new text as that comes.
    """
    from megalith.inference import Sampling, load_prepared, stream, tokens_cut

    if model is None and not overrides and isinstance(recipe, str | Path) and _is_model(recipe):
        directory, recipe_seed = Path(recipe), 0
    else:
        loaded = load(recipe, overrides)
        directory = directory_of(loaded, output) / "train" if model is None else Path(model)
        recipe_seed = loaded.seed
    texts = [prompt] if isinstance(prompt, str) else list(prompt)
    if prompts is not None:
        texts = [*(text for text in texts if text), *_read_prompts(Path(prompts))]
    sampling = Sampling(
        max_tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop=tuple(stop),
        seed=recipe_seed if seed is None else seed,
        logprobs=logprobs,
    )
    lm = load_prepared(directory, precision)
    for number, cut in enumerate(tokens_cut(lm, texts, tokens), start=1):
        if cut:
            note(f"prompt {number}: its first {cut:,} tokens are beyond the model's context and are not read")
    pieces: list[list[TokenEvent]] = [[] for _ in texts]
    for place, event in stream(lm, texts, sampling):
        pieces[place].append(event)
        if advance is not None:
            advance(place, event.text)
    return [
        Continuation(text, "".join(event.text for event in own), own[-1].finish or "length", _tokens(lm, own))
        for text, own in zip(texts, pieces, strict=True)
    ]


def _is_model(place: Place) -> bool:
    """Whether a recipe's argument names a model: an address, a checkpoint, or a directory with a configuration."""
    from megalith.artifacts.checkpoints import STATE
    from megalith.storage import storage_address

    if str(place) in shipped_recipes():
        return False
    with contextlib.suppress(OSError, ValueError):  # too long a name, a folder that may not be entered, a NUL
        inside = (Path(place) / name for name in ("config.json", "model/config.json", STATE))
        return storage_address(place) is not None or any(file.is_file() for file in inside)
    return False


def chat(
    model: Place,
    *,
    system: str | None = None,
    tokens: int = 512,
    temperature: float = 0.7,
    top_k: int | None = None,
    top_p: float | None = 0.95,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> "Conversation":
    """A conversation with the model in a directory, by its own chat template: `answer(text)` gives pieces of text.

    An answer has at most `tokens` tokens; for the other settings see `generate`. Raises InputError for a model without
    a chat template.
    """
    from megalith.inference import Conversation, Sampling, load_prepared

    sampling = Sampling(
        max_tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    return Conversation(load_prepared(Path(model), precision), sampling, system)


def _read_prompts(path: Path) -> list[str]:
    """Raises InputError for a file without prompts, and for a line of JSON lines that has none."""
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), start=1) if line.strip()]
    if not lines:
        raise InputError("this file has no prompts.", where=str(path), mend="Write one a line.")
    if path.suffix != ".jsonl":
        return [line.removesuffix("\r") for _, line in lines]
    found = []
    for number, line in lines:
        where = f"{path}, line {number}"
        value = parse_json(line, where=where)
        if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
            raise InputError('this line has no text under "prompt".', where=where, mend='Write {"prompt": "…"}.')
        found.append(value["prompt"])
    return found


def _tokens(lm: "LanguageModel", events: "Sequence[TokenEvent]") -> tuple[TokenLogprob, ...] | None:
    if events[0].logprob is None:
        return None
    return tuple(
        TokenLogprob(event.token, lm.tokenizer.decode([event.token], after_text=True), event.logprob or 0.0, event.top)
        for event in events
    )


def serve(
    model: Place,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    kv_gigabytes: float | None = None,
    max_batch: int = 64,
    max_waiting: int = 128,
    time_limit: float = 600.0,
    body_megabytes: float = 8.0,
    grace: float = 10.0,
    allowed_host: Sequence[str] = (),
    api_key_file: Place | None = None,
    ready: Callable[[str, str], object] | None = None,
) -> None:
    """Answer OpenAI's clients with the model in a directory, and show its page, until SIGINT or SIGTERM.

    `kv_gigabytes` (default: a quarter of the free memory) bounds the keys and values of all sequences at work;
    `max_batch` of them run at once and `max_waiting` more may wait. `time_limit` and `grace` are seconds. The key that
    clients send is that of `api_key_file`, else of the environment's MEGALITH_API_KEY; without either none is needed.
    `ready` is called with the model's name and the address when the server listens.
    """
    needed = [each for each in ("starlette", "uvicorn", "prometheus_client") if find_spec(each) is None]
    if needed:
        raise UnsupportedError(
            f"`serve` needs {', '.join(needed)}, which {'is' if len(needed) == 1 else 'are'} not installed.",
            mend="Run `pip install 'megalith[serve]'`.",
        )
    return_freed_memory()
    from megalith.inference import Engine, load_prepared
    from megalith.machine import available_memory_bytes
    from megalith.serving import Service, Settings, address_of, bind, read_key, run, served_name

    directory = Path(model)
    settings = Settings(
        served_name(directory) if name is None else name,
        allowed_hosts=tuple(one.lower() for one in allowed_host),
        api_key=read_key(None if api_key_file is None else Path(api_key_file)),
        max_batch=max_batch,
        max_waiting=max_waiting,
        time_limit_seconds=time_limit,
        body_limit_bytes=int(body_megabytes * 1e6),
        grace_seconds=grace,
    )
    with bind(host, port) as listening:
        lm = load_prepared(directory, precision, keeps_memory=False)  # it lives long
        kv_bytes = available_memory_bytes() // 4 if kv_gigabytes is None else int(kv_gigabytes * 1e9)
        engine = Engine(lm, kv_bytes=kv_bytes, max_batch=max_batch)
        address = address_of(listening)
        run(Service(lm, engine, settings), listening, lambda: ready and ready(settings.name, address))
