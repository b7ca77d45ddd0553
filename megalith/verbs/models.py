"""A trained model: loaded, and asked to write."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
