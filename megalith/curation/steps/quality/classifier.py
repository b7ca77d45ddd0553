"""The quality of a document: the probability that it is reference text and not a raw page; the draw by it (MT-NLG §3).

A linear classifier over hashed words and pairs of words, trained on texts that the user names as good against raw
ones, calibrated, and measured on documents it has not seen. It knows what the two kinds of text look like and nothing
of truth, safety or use; `docs/how-quality-is-judged.md` says what that is worth.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from megalith.curation.corpus.read_units import model_file
from megalith.curation.keyed_draws import draws
from megalith.curation.steps.quality.held_out import Bin, HeldOut, fit_sigmoid, measure, sigmoid
from megalith.curation.steps.quality.kernels import fit, logits
from megalith.curation.steps.quality.sample import Sample, fold, sample
from megalith.curation.text.fasttext import FastText, read_fasttext
from megalith.errors import InputError
from megalith.ngrams.words import words
from megalith.recipe.filters import QualityConfig

Array = npt.NDArray[Any]

FEWEST_DOCUMENTS = 20
"""A class; fewer leave nothing to measure on."""
BATCH_DOCUMENTS = 1024
KIND = "megalith quality classifier 1"


class Judge(Protocol):
    """A model that scores the quality of documents."""

    def scores(self, texts: pa.Array) -> Array: ...


@dataclass(frozen=True)
class Classifier:
    """A trained classifier: P(high quality) = σ(slope · logit + intercept)."""

    weights: Array
    """float32 (buckets,)."""
    bias: float
    slope: float
    intercept: float
    ngram_words: int
    words_per_document: int
    documents_per_class: int
    """Documents of each class for training, calibration and measurement."""
    held_out: HeldOut

    def scores(self, texts: pa.Array) -> Array:
        """P(high quality) of each text, float32 in [0, 1]; 0 for a text without words."""
        found = words(texts)
        scores = self._of(fold(found.hashes), found.bounds)
        scores[found.bounds[1:] == found.bounds[:-1]] = 0.0
        return scores.astype(np.float32)

    def save(self, path: Path) -> None:
        """Write a safetensors file; the same classifier gives the same bytes."""
        facts = asdict(self) | {"kind": KIND, "probe": _probe()}
        del facts["weights"]
        save_file({"weights": self.weights}, path, metadata={"megalith": json.dumps(facts, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> "Classifier":
        """Read what `save` wrote. Raises InputError where the file is missing, damaged, or of another kind."""
        try:
            with safe_open(path, framework="numpy") as file:
                facts = json.loads(file.metadata()["megalith"])
                weights = file.get_tensor("weights")
            if facts.pop("kind") != KIND or weights.dtype != np.float32 or weights.size & (weights.size - 1):
                raise ValueError("it is of another kind")
            if facts.pop("probe") != _probe():
                raise ValueError("its words were hashed by another version of Megalith")
            measured = facts.pop("held_out")
            bins = tuple(Bin(**one) for one in measured.pop("bins"))
            return cls(weights=weights, held_out=HeldOut(**measured, bins=bins), **facts)
        except FileNotFoundError as error:
            raise InputError("there is no such classifier.", where=str(path)) from error
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"this is no quality classifier that can be used: {error}.", where=str(path), mend="Train it again."
            ) from error

    def _of(self, hashes: Array, bounds: Array) -> Array:
        found = logits(hashes, bounds, self.ngram_words > 1, self.words_per_document, self.weights, self.bias)
        return sigmoid(self.slope * found + self.intercept)


def train(
    positives: Iterable[str], negatives: Iterable[str], config: QualityConfig, seed: int, scratch: Path | None = None
) -> Classifier:
    """A classifier that tells `positives` from `negatives`.

    The texts are read once and not kept; a passage of each of up to `documents_per_class` stands in a temporary file
    in `scratch` (the system's place for those if None). Both classes count as many documents as the smaller has. The
    order of the texts makes no difference. Raises InputError where a class has fewer than 20 different texts.
    """
    samples = [
        sample(texts, config.documents_per_class, config.words_per_document, seed, scratch)
        for texts in (negatives, positives)
    ]
    try:
        return _train(samples, config)
    finally:
        for one in samples:
            one.file.close()


def load_judge(config: QualityConfig) -> Judge | None:
    """The model that `config.model` names, Megalith's or fastText's; None where it names none. Raises InputError."""
    path = model_file(config.model, "curate.quality.model")
    if path is None:
        return None
    if path.suffix == ".safetensors":
        return Classifier.load(path)
    return _FastTextJudge(read_fasttext(path), config.positive_label)


def kept(scores: Array, ids: Sequence[str], alpha: float, seed: int) -> Array:
    """Which documents are kept, bool (documents,): each with probability (2 − score)^−alpha, by its own draw.

    That is the rule `np.random.pareto(alpha) > 1 − score` of GPT-3 and MT-NLG, with a draw that depends on the seed
    and the document's id and on nothing else.
    """
    chances = (2.0 - np.asarray(scores, np.float64)) ** -alpha
    return draws(seed, "quality", ids) < chances


@dataclass(frozen=True)
class _FastTextJudge:
    model: FastText
    label: str

    def scores(self, texts: pa.Array) -> Array:
        return self.model.scores(texts, self.label)


def _train(samples: Sequence[Sample], config: QualityConfig) -> Classifier:
    size = min(map(len, samples))
    if size < FEWEST_DOCUMENTS:
        raise InputError(
            f"there are {len(samples[1])} positive and {len(samples[0])} negative texts, too few to learn from.",
            where="curate.quality",
            mend=f"Use at least {FEWEST_DOCUMENTS} different ones of each.",
        )
    held_out, calibration, training = _share_out(samples, size, config.held_out_share)
    pairs = config.ngram_words > 1
    weights = np.zeros(1 << config.bucket_bits, np.float32)
    squares = np.full(len(weights), _FIRST_SQUARE, np.float32)
    bias = np.array([0.0, _FIRST_SQUARE])
    for _ in range(config.epochs):
        for hashes, bounds, positive in _batches(samples, training):
            fit(
                hashes,
                bounds,
                positive,
                pairs,
                config.words_per_document,
                config.learning_rate,
                weights,
                squares,
                bias,
            )

    def of(part: Array) -> tuple[Array, Array]:
        found = [
            (logits(hashes, bounds, pairs, config.words_per_document, weights, bias[0]), positive)
            for hashes, bounds, positive in _batches(samples, part)
        ]
        return np.concatenate([values for values, _ in found]), np.concatenate([those for _, those in found])

    slope, intercept = fit_sigmoid(*of(calibration))
    values, positive = of(held_out)
    return Classifier(
        weights=weights,
        bias=float(bias[0]),
        slope=slope,
        intercept=intercept,
        ngram_words=config.ngram_words,
        words_per_document=config.words_per_document,
        documents_per_class=size,
        held_out=measure(sigmoid(slope * values + intercept), positive),
    )


_FIRST_SQUARE = 1e-8


def _share_out(samples: Sequence[Sample], size: int, share: float) -> tuple[Array, Array, Array]:
    """Documents to measure on, to calibrate on and to learn from, as (documents, 2): class and place, by key.

    Of each class the same share is for measuring and for calibrating.
    """
    parts: list[list[Array]] = [[], [], []]
    cuts = np.ceil([share * size, share * size * 2]).astype(int)
    for label, one in enumerate(samples):
        order = np.argsort(one.draws[:size], kind="stable")
        for part, places in zip(parts, np.split(order, cuts), strict=True):
            part.append(np.stack([np.full(len(places), label), places], axis=1))

    def by_key(part: list[Array]) -> Array:
        rows = np.concatenate(part)
        keys = np.array([samples[label].keys[place] for label, place in rows])
        return np.asarray(rows[np.lexsort((rows[:, 0], keys))])

    return by_key(parts[0]), by_key(parts[1]), by_key(parts[2])


def _batches(samples: Sequence[Sample], rows: Array) -> Iterable[tuple[Array, Array, Array]]:
    """Words' hashes, where each document starts, and whether it is a positive."""
    for first in range(0, len(rows), BATCH_DOCUMENTS):
        those = rows[first : first + BATCH_DOCUMENTS]
        passages = [samples[label].passage(place) for label, place in those]
        bounds = np.concatenate(([0], np.cumsum([len(passage) for passage in passages])))
        yield np.concatenate(passages), bounds, those[:, 0] == 1


def _probe() -> int:
    """Changes where words are found or hashed otherwise, and weights are of no use."""
    return int(np.bitwise_xor.reduce(words(pa.array(["Ein Wort, πάντα ῥεῖ: 42 words_"])).hashes))
