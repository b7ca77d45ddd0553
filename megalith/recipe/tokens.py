"""The section `tokens`: shards that stand already, in place of a corpus to curate and tokenize."""

from collections import Counter
from typing import Any, Self

from pydantic import ConfigDict, Field, PositiveFloat, field_validator, model_validator

from megalith.recipe.base import Section
from megalith.recipe.blend import BlendConfig, BlendedConfig


class TokenSource(Section):
    """A pair of shards, or several that read as one."""

    prefix: str = Field(min_length=1)
    """The path without .bin or .idx; `$NAME` is filled in, and `*` stands for any characters of a name."""
    weight: PositiveFloat | None = None
    """Its share of the samples; weights need not add up to 1."""

    def __str__(self) -> str:
        return self.prefix if self.weight is None else f"{self.weight:g} {self.prefix}"


class TokensConfig(Section):
    """Shards in Megatron's format that are read where they lie."""

    model_config = ConfigDict(serialize_by_alias=True)

    sources: tuple[TokenSource, ...] = Field(default=(), alias="from")
    """A prefix, a list of prefixes or of {prefix, weight}, or the words of Megatron's --data-path (0.3 a 0.7 b).
    None: the corpus that curate left."""
    tokenizer: tuple[str, ...] = Field(default=(), max_length=2)
    """The shards' tokenizer: tokenizer.json, GPT-2's [vocab.json, merges.txt], or the directory that holds them."""
    validation: tuple[str, ...] = ()
    """Prefixes of held-out shards. None: a share of the others."""
    validation_share: float = Field(default=0.01, gt=0.0, lt=0.5)
    """Share of each set's documents, its last ones, that is held out: the documents that Megatron's --split takes."""

    @field_validator("sources", mode="before")
    @classmethod
    def _as_megatron_writes_it(cls, given: Any) -> Any:
        if isinstance(given, str) and _is_number(given.partition(" ")[0]):
            given = given.split()
        if isinstance(given, (str, dict, TokenSource)):
            given = [given]
        if not isinstance(given, (list, tuple)):
            return given
        if any(_is_number(word) for word in given[::2]):
            if len(given) % 2 or not all(_is_number(word) for word in given[::2]):
                raise ValueError("weights and prefixes do not alternate: write 0.3 a 0.7 b")
            return [
                {"weight": float(weight), "prefix": prefix}
                for weight, prefix in zip(given[::2], given[1::2], strict=True)
            ]
        return [{"prefix": one} if isinstance(one, str) else one for one in given]

    @field_validator("tokenizer", "validation", mode="before")
    @classmethod
    def _one_is_a_list(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.sources and (self.tokenizer or self.validation):
            raise ValueError("from is missing: it names the shards")
        if self.sources and not self.tokenizer:
            raise ValueError("tokenizer is missing: name the tokenizer.json that the shards were made with")
        weighted = [source for source in self.sources if source.weight is not None]
        if weighted and len(weighted) < len(self.sources):
            raise ValueError("some sources have a weight and some have none: give all the same")
        return self

    @property
    def datasets(self) -> dict[str, tuple[TokenSource, ...]]:
        """The sources by name, each on its own where they have weights; else all under an empty name.

        A name is the last part of a prefix; of several that are alike, the later ones are numbered.
        """
        if not any(source.weight for source in self.sources):
            return {"": self.sources} if self.sources else {}
        made: dict[str, tuple[TokenSource, ...]] = {}
        seen: Counter[str] = Counter()
        for source in self.sources:
            name = source.prefix.rstrip("/").rpartition("/")[2]
            seen[name] += 1
            made[name if seen[name] == 1 else f"{name}-{seen[name]}"] = (source,)
        return made

    @property
    def blend(self) -> dict[str, BlendedConfig]:
        """The weights by name, as the section `blend` has them."""
        return {
            name: BlendedConfig(weight=source.weight)
            for name, (source, *_) in self.datasets.items()
            if source.weight is not None
        }


def mixture(tokens: TokensConfig, blend: BlendConfig) -> BlendConfig:
    """The shares in which a run reads its data sets: those of the sources, or else the recipe's."""
    return blend.model_copy(update={"datasets": tokens.blend}) if tokens.blend else blend


def _is_number(word: Any) -> bool:
    if isinstance(word, (int, float)):
        return True
    try:
        float(word)
    except (TypeError, ValueError):
        return False
    return True
