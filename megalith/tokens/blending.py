"""The result of a blend, computed before training: tokens drawn and epochs of each data set."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from megalith.errors import InputError, RecipeError
from megalith.recipe import BlendConfig
from megalith.tokens.blend import Blend
from megalith.tokens.loader import Batch, TrainingWindows
from megalith.tokens.splits import open_split


@dataclass(frozen=True)
class Portion:
    """One data set's part in a run."""

    name: str
    share: float
    """Share of the samples; all shares add up to 1."""
    tokens: int | None
    """Size of the data set; None if unknown."""
    drawn_tokens: float | None
    """That the run reads of it; None where the run's length is open."""
    epochs: float | None


def portions(blend: BlendConfig, sizes: Mapping[str, int], run_tokens: int | None) -> list[Portion]:
    """Compute how much a run of `run_tokens` reads of each data set; without `sizes`, sizes are those of the recipe.

    Raises RecipeError if the recipe has no blend, or sets epochs for a data set of unknown size.
    """
    if not blend.datasets:
        raise RecipeError(
            "this recipe blends nothing: it reads its corpus as one.",
            where="blend.datasets",
            mend="Set blend.datasets, by name: {weight: …} or {epochs: …}.",
        )
    tokens = {name: sizes.get(name, one.tokens) for name, one in blend.datasets.items()}
    pulls: dict[str, float] = {}
    for name, one in blend.datasets.items():
        size = tokens[name]
        if one.epochs is not None and size is None:
            raise RecipeError(
                "epochs are given, and how many tokens one is is not known.",
                where=f"blend.datasets.{name}",
                mend="Tokenize first, state its tokens, or give weights.",
            )
        pulls[name] = one.given * (size or 0) if one.epochs is not None else one.given
    whole = sum(pulls.values())
    if not whole:
        return []
    made = []
    for name, pull in pulls.items():
        share, size = pull / whole, tokens[name]
        drawn = None if run_tokens is None else share * run_tokens
        epochs = drawn / size if drawn is not None and size else None
        made.append(Portion(name, share, size, drawn, epochs))
    return made


def check_blend(blend: BlendConfig, sizes: Mapping[str, int], run_tokens: int | None) -> list[Portion]:
    """The portions of a blend of data sets that stand. Raises InputError or RecipeError for one that cannot be read.

    That is: a data set that the corpus has not or that is empty, one of the corpus that the blend leaves out, or more
    epochs than blend.maximum_epochs.
    """
    check_names(blend, sizes)
    empty = [name for name, tokens in sizes.items() if tokens < 2]
    if empty:
        raise InputError(
            f"there is no token to predict in {_list(empty)}.",
            where="blend.datasets",
            mend="Leave it out, or give it more text.",
        )
    made = portions(blend, sizes, run_tokens)
    check_epochs(blend, made)
    return made


def check_names(blend: BlendConfig, datasets: Collection[str]) -> None:
    """Raise InputError where the blend names other data sets than the corpus has."""
    where = "blend.datasets"
    missing = [name for name in blend.datasets if name not in datasets]
    if missing:
        raise InputError(
            f"the corpus has no document of {_list(missing)}.",
            where=where,
            mend=f"Leave it out, or name one of {_list(sorted(datasets))}.",
        )
    left_out = [name for name in datasets if name not in blend.datasets]
    if left_out:
        raise InputError(
            f"the corpus has documents of {_list(left_out)}, which the blend does not name.",
            where=where,
            mend="Set its share, or remove it from curate.datasets.",
        )


def check_epochs(blend: BlendConfig, made: list[Portion]) -> None:
    """Raise RecipeError where a data set is read more often than blend.maximum_epochs."""
    worst = max(made, key=lambda one: one.epochs or 0.0)
    if worst.epochs is not None and worst.epochs > blend.maximum_epochs:
        at_most = worst.share * blend.maximum_epochs / worst.epochs
        raise RecipeError(
            f"this blend reads {worst.name} {worst.epochs:.2f} times, and blend.maximum_epochs is "
            f"{blend.maximum_epochs:g}.",
            where=f"blend.datasets.{worst.name}",
            mend=f"Lower its share of {worst.share:.5f} to {at_most:.5f} or less, train on fewer tokens, or raise "
            "blend.maximum_epochs.",
        )


class _After:
    """The windows of a data set after the first few."""

    def __init__(self, windows: TrainingWindows, first: int) -> None:
        self._windows, self._first = windows, first
        self.sequence_length, self.per_epoch = windows.sequence_length, windows.per_epoch

    def batch(self, first_sample: int, count: int) -> Batch:
        return self._windows.batch(self._first + first_sample, count)


def blended_windows(
    blend: BlendConfig, tokens: Path, sequence_length: int, seed: int, drawn: Mapping[str, int] | None = None
) -> Blend:
    """The data sets' training shards under `tokens`, each in its own order, read in the shares of the blend.

    Of each data set the samples that were `drawn` before are left out.
    """
    parts = []
    for name, one in blend.datasets.items():
        windows = TrainingWindows(open_split(tokens, shard_name(name)).stream, sequence_length, seed)
        parts.append((_After(windows, (drawn or {}).get(name, 0)), one.given))
    return Blend.of_epochs(parts) if blend.by_epochs else Blend(parts)


def shard_name(dataset: str) -> str:
    """The prefix of a data set's training shards."""
    return f"train-{quote(dataset, safe=' ')}"


def _list(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


__all__ = ["Portion", "blended_windows", "check_blend", "check_epochs", "check_names", "portions", "shard_name"]
