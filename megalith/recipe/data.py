"""The sections that make tokens: `crawl`, `curate`, `tokenize`."""

from typing import Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from megalith.recipe.base import Section

Share = Field(ge=0.0, le=1.0)


class CrawlConfig(Section):
    """The crawl of the machine's own Python documentation."""

    maximum_pages: PositiveInt = 1600
    maximum_page_bytes: PositiveInt = 1_000_000
    """A longer page (HTML bytes) is left out and counted."""
    seconds_per_module: PositiveFloat = 10.0
    """A module that takes longer to import and render is given up and counted."""
    workers: PositiveInt = 2


class HeuristicsConfig(Section):
    """Thresholds of the document rules; each is off at its neutral value."""

    minimum_characters: NonNegativeInt = 512
    """MT-NLG §3: documents under 512 characters are dropped."""
    minimum_words: NonNegativeInt = 50
    """Gopher, Table A1."""
    maximum_words: PositiveInt = 10_000_000
    mean_word_length: tuple[float, float] = (3.0, 10.0)
    """Gopher: between 3 and 10 characters."""
    maximum_symbol_ratio: float = 0.1
    """Gopher: `#` and `…` per word."""
    maximum_bullet_lines: float = Field(default=0.9, ge=0.0, le=1.0)
    """Gopher: share of lines that begin with a bullet."""
    maximum_ellipsis_lines: float = Field(default=0.3, ge=0.0, le=1.0)
    """Gopher: share of lines that end with an ellipsis."""
    minimum_alphabetic_words: float = Field(default=0.8, ge=0.0, le=1.0)
    """Gopher: share of words with an alphabetic character."""
    minimum_stop_words: NonNegativeInt = 2
    """Gopher: different ones of the, be, to, of, and, that, have, with."""
    maximum_duplicate_line_characters: float = Field(default=0.2, ge=0.0, le=1.0)
    """Gopher: share of characters in repeated lines."""
    maximum_top_ngram_characters: tuple[float, float, float] = (0.20, 0.18, 0.16)
    """Gopher: share of characters in the most frequent 2-, 3- and 4-gram."""


class MinHashConfig(Section):
    """Fuzzy duplicates: MinHash, bands, verification, connected components."""

    shingle_words: PositiveInt = 5
    """A shingle is this many consecutive words (`\\w+`, lower-cased). A Jaccard threshold means nothing without it."""
    bands: PositiveInt = 20
    rows: PositiveInt = 13
    """20 × 13: MT-NLG."""
    minimum_jaccard: float = Field(default=0.8, gt=0.0, le=1.0)
    """Candidates under this estimated Jaccard similarity are kept apart."""


class DecontaminateConfig(Section):
    """N-grams of the evaluation tasks are cut out of training text (MT-NLG §3, GPT-3 appendix C)."""

    ngram_words: PositiveInt = 13
    minimum_words: PositiveInt = 8
    """A task text of minimum_words … ngram_words − 1 words is entered whole; a shorter one is ignored."""
    frequent: PositiveInt = 10
    """N-grams found this often or more in the training text are common language and not used."""
    margin_characters: NonNegativeInt = 200
    """Cut on each side of a match, then outward to the next sentence end."""
    minimum_piece_characters: NonNegativeInt = 200
    """What is left of a document is kept in pieces longer than this."""
    maximum_pieces: PositiveInt = 10
    """A document cut into more pieces is dropped."""


class TaskItemsConfig(Section):
    """The evaluation items that are cut from held-out documents. Lengths are in words (runs of non-spaces)."""

    most: NonNegativeInt = 200
    """Items of each task (at most)."""
    passage_words: tuple[PositiveInt, PositiveInt] = (40, 120)
    """last_word: fewest and most words of a passage, its last word included. LAMBADA's are about 75."""
    context_words: tuple[PositiveInt, PositiveInt] = (50, 80)
    """continuation: fewest and most words before the choices."""
    continuation_words: PositiveInt = 12
    """continuation: words of each choice."""

    @model_validator(mode="after")
    def _ranges_are_ranges(self) -> Self:
        for name in ("passage_words", "context_words"):
            fewest, most = getattr(self, name)
            if fewest > most:
                raise ValueError(f"{name} goes from {fewest} to {most}: give the smaller number first")
        return self


class CurateConfig(Section):
    """From pages to documents."""

    sources: tuple[str, ...] = ()
    """Files or directories of WARC, JSONL, Parquet or text (also .gz, .zst). None: the crawl."""
    extractor: Literal["resiliparse", "trafilatura", "justext"] = "resiliparse"
    """resiliparse is nine times faster; trafilatura leaves less boilerplate; justext is MT-NLG's."""
    languages: tuple[str, ...] = ("en",)
    """ISO 639-1 codes that are kept; none keeps all."""
    minimum_language_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the text's bytes that must be in one of `languages`."""
    heuristics: HeuristicsConfig = HeuristicsConfig()
    minhash: MinHashConfig = MinHashConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    validation_share: float = Field(default=0.05, gt=0.0, lt=0.5)
    """Share of documents held out, by keyed hash of the document's text; the evaluation items are cut from these."""
    task_items: TaskItemsConfig = TaskItemsConfig()


class TokenizeConfig(Section):
    """Byte-level BPE, trained on the training split, and the shards."""

    vocab_size: PositiveInt = 50257
    training_bytes: PositiveInt = 100_000_000
    """The tokenizer is trained on a sample of about this many bytes of training text."""

    @model_validator(mode="after")
    def _holds_the_bytes(self) -> Self:
        if self.vocab_size < 257:
            raise ValueError(f"vocab_size {self.vocab_size} is too small: 256 bytes and <|endoftext|> want 257")
        return self
