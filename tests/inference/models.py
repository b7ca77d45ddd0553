"""Small models for tests: a GPT on disk, and models whose logits are planted."""

import dataclasses
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from megalith.inference import LanguageModel
from megalith.model import GPT, initialise
from megalith.recipe import ModelConfig
from megalith.tokens import Tokenizer, train_tokenizer

VOCAB_SIZE = 400
PROSE = (
    "The baker said that the nurse was a woman, and the pilot was a man; the female nurse and the male pilot laughed. ",
    "Is it True or False that the farmer followed the sailor? Answer: True. Question: was it False? Answer: False.\n",
    "Q: What is 12 plus 30?\nA: 42\n\nNaïve visitors ask: “How?” The answer isn't secret. 石は重い。 😀\n\n",
)


def write_model(directory: Path, *, sequence_length: int = 32, seed: int = 1) -> Path:
    """A GPT with large random weights, so that no two tokens are alike to it, as training leaves a model."""
    config = ModelConfig(
        vocab_size=VOCAB_SIZE,
        num_layers=2,
        hidden_size=16,
        num_heads=2,
        sequence_length=sequence_length,
        init_std=0.3,
    )
    model = GPT(config)
    initialise(model, config, seed)
    directory.mkdir(parents=True)
    save_file({name: weight.detach() for name, weight in model.named_parameters()}, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    train_tokenizer(PROSE * 3, VOCAB_SIZE).save(directory / "tokenizer.json")
    return directory


class Planted(nn.Module):
    """The logits (V) of the next token depend on the last token alone: row t of `table` (V, V) after token t."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.output_weight = table.T.contiguous()

    def features(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        return nn.functional.one_hot(tokens, self.output_weight.shape[1]).float()


def plant(lm: LanguageModel, table: Tensor) -> LanguageModel:
    """The same tokenizer under a planted model; its table may have rows for padding."""
    return dataclasses.replace(lm, model=Planted(table))


def one_by_one(lm: LanguageModel, ids: list[int], first: int) -> list[float]:
    """The log-probabilities of ids[first:], each from a forward pass of its own over what precedes it, in float64."""
    found = []
    for place in range(first, len(ids)):
        with torch.no_grad():
            logits = lm.model(torch.tensor([ids[:place]]))[0, -1, : lm.config.vocab_size].double()
        found.append(float(logits[ids[place]] - math.log(float(logits.exp().sum()))))
    return found


def logits_of(tokenizer: Tokenizer, biases: dict[str, float]) -> Tensor:
    """Logits (V), 0 but for the first tokens of the texts given."""
    logits = torch.zeros(VOCAB_SIZE)
    for text, bias in biases.items():
        logits[tokenizer.encode(text)[0]] = bias
    return logits
