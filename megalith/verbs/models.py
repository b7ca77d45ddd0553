"""A trained model: loaded, asked to write, and served."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from megalith.errors import UnsupportedError
from megalith.recipe import Overrides
from megalith.verbs.arguments import Place, RecipeSource, directory_of, load

if TYPE_CHECKING:
    from megalith.inference import LanguageModel


@dataclass(frozen=True)
class Continuation:
    """A prompt, and the text that a model wrote after it."""

    prompt: str
    text: str
    """Without the prompt."""


def load_model(directory: Place) -> "LanguageModel":
    """The model of a train artifact (runs/NAME/train) or of its `model` directory, in fp32 on the CPU."""
    from megalith.inference import load_model as load_from

    return load_from(Path(directory))


def generate(
    recipe: RecipeSource,
    prompt: str | Sequence[str] = "",
    *,
    overrides: Overrides = (),
    tokens: int = 100,
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = 0.95,
    seed: int | None = None,
    model: Place | None = None,
    output: Place | None = None,
) -> list[Continuation]:
    """Text after each prompt by the expedition's model, or by the one in the directory `model`.

    Temperature 0 takes the most likely token. `top_k` keeps the likeliest tokens, `top_p` then the fewest that hold
    this share of the probability. `seed` is the recipe's unless it is set.
    """
    from megalith.console import note
    from megalith.inference import generate as write
    from megalith.inference import load_model as load_from
    from megalith.inference import tokens_cut

    loaded = load(recipe, overrides)
    lm = load_from(directory_of(loaded, output) / "train" if model is None else Path(model))
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    for number, cut in enumerate(tokens_cut(lm, prompts, tokens), start=1):
        if cut:
            note(f"prompt {number}: its first {cut:,} tokens are beyond the model's context and are not read")
    texts = write(
        lm,
        prompts,
        tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=loaded.seed if seed is None else seed,
    )
    return [Continuation(*pair) for pair in zip(prompts, texts, strict=True)]


def serve(
    model: Place,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str | None = None,
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
    from megalith.inference import Engine
    from megalith.inference import load_model as load_from
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
        lm = load_from(directory)
        kv_bytes = available_memory_bytes() // 4 if kv_gigabytes is None else int(kv_gigabytes * 1e9)
        engine = Engine(lm, kv_bytes=kv_bytes, max_batch=max_batch)
        address = address_of(listening)
        run(Service(lm, engine, settings), listening, lambda: ready and ready(settings.name, address))
