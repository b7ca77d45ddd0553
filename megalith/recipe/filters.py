"""The judgements of `curate` that are off until they are asked for: URLs, quality, private data."""

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from megalith.recipe.base import PositiveInt, Section


class CleanConfig(Section):
    """Changes to the text beyond the mending of broken encodings."""

    straight_quotes: bool = False
    """Curly quotation marks become straight ones, as MT-NLG's ftfy did."""
    plain_letters: bool = False
    """Full-width letters, digits and punctuation become ASCII, half-width kana full-width, ligatures two letters."""
    c4_lines: bool = False
    """Lines are cut that end with no sentence's end, have fewer than three words, or name javascript or a notice on
    cookies or terms of use (C4); each reason is counted."""


class UrlConfig(Section):
    """Documents left out for their URL. No list comes with Megalith; a document without a URL is kept."""

    blocklists: tuple[str, ...] = ()
    """Files of a domain or a URL a line (plain or .gz), or folders with `domains` and `urls` as UT1 lays them out.

    `example.com` blocks that domain and all under it, `example.com/a` what stands at that path and below.
    """
    hard_words: tuple[str, ...] = ()
    """Files of a word a line (plain or .gz): a URL with one of them is left out."""
    soft_words: tuple[str, ...] = ()
    """Files of a word a line (plain or .gz): a URL with `minimum_soft_words` of them is left out."""
    minimum_soft_words: PositiveInt = 2
    """Different ones."""
    drop_ip_hosts: bool = False
    """Leave out pages of hosts that have no name, but a number."""


class RepeatsConfig(Section):
    """Text that stands in several kept documents, or several times in one, is cut out of all but the first of them.

    The first is the one that would be kept of duplicates. Off until asked for.
    """

    paragraphs: bool = False
    """Paragraphs (dolma)."""
    lines: bool = False
    """Lines (CCNet)."""
    minimum_words: PositiveInt = 5
    """Lines and paragraphs of fewer words stay."""
    passage_words: int = Field(default=0, ge=0)
    """Runs of this many words and more, wherever they begin (Lee et al.: 50 tokens); 0: none."""

    @model_validator(mode="after")
    def _takes_long_passages(self) -> Self:
        if 0 < self.passage_words < 10:
            raise ValueError(
                f"passage_words is {self.passage_words}: runs that short are common language; use 10 or more"
            )
        return self


class QualityConfig(Section):
    """A classifier tells reference text from raw pages; what looks better is likelier to be kept (MT-NLG §3)."""

    positives: tuple[str, ...] = ()
    """Names of datasets, or files or directories of reference text. None, and no `model`: quality is not judged."""
    negatives: tuple[str, ...] = ()
    """Names of datasets, or files or directories of raw text. None: the documents that reach this step."""
    model: str | None = None
    """A trained classifier in place of training one: one of Megalith's (.safetensors) or of fastText's (.bin, .ftz).

    `$NAME` is filled in."""
    positive_label: str = "__label__hq"
    """The label of a fastText model whose probability is the quality."""
    pareto_alpha: NonNegativeFloat = 3.0
    """A document of quality s is kept with probability (2 − s)^−α (GPT-3: 9; 0 keeps all)."""
    threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    """In place of the draw: documents of a lower quality are dropped, all others kept."""
    documents_per_class: PositiveInt = 500_000
    """At most this many documents of each class are learnt from, drawn by keyed hash."""
    words_per_document: PositiveInt = 1000
    """The classifier learns from a passage of this many words of a longer document; it scores whole documents."""
    ngram_words: Literal[1, 2] = 2
    """Features are single words, and pairs if 2."""
    bucket_bits: int = Field(default=20, ge=8, le=26)
    """Features are hashed to 2^bits weights of four bytes."""
    held_out_share: float = Field(default=0.1, ge=0.02, le=0.4)
    """Not learnt from, so that accuracy and calibration are measured on it; as many again set the calibration."""
    epochs: PositiveInt = 3
    learning_rate: PositiveFloat = 0.3

    @model_validator(mode="after")
    def _is_trained_or_given(self) -> Self:
        if self.model is not None and (self.positives or self.negatives):
            raise ValueError("a model is given, so nothing is trained: leave out positives and negatives, or the model")
        if self.threshold is not None and not (self.positives or self.model):
            raise ValueError("there is a threshold, but no quality to compare it with: name positives, or a model")
        if self.negatives and not self.positives:
            raise ValueError("there are negatives but no positives to tell from them")
        return self


class PrivateConfig(Section):
    """Private data that is masked in the text that is kept; each kind is counted."""

    emails: bool = False
    """Addresses become <EMAIL>."""
    ip_addresses: bool = False
    """Public IPv4 and IPv6 addresses become <IP_ADDRESS>; private and reserved ones stay."""
    phone_numbers: bool = False
    """International numbers that begin with +, and those written the North American way, become <PHONE_NUMBER>."""
    keys: bool = False
    """Credentials (cloud and forge keys, private-key blocks, web tokens, secrets set to a name) become <KEY>."""
