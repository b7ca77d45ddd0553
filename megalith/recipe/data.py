"""The sections that make tokens: `crawl`, `curate`, `tokenize`."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, PositiveFloat, model_validator

from megalith.recipe.base import Dimension, NonNegativeInt, PositiveInt, Section
from megalith.recipe.filters import CleanConfig, PrivateConfig, QualityConfig, RepeatsConfig, UrlConfig
from megalith.recipe.heuristics import HeuristicsConfig
from megalith.recipe.minhash import MinHashConfig
from megalith.recipe.semantic import SemanticConfig


class CrawlConfig(Section):
    """The crawl of the machine's own Python documentation."""

    maximum_pages: PositiveInt = 1600
    maximum_page_bytes: PositiveInt = 1_000_000
    """A longer page (HTML bytes) is left out and counted."""
    seconds_per_module: PositiveFloat = 10.0
    """A module that takes longer to import and render is given up and counted."""
    workers: PositiveInt = 2


class TaskTextConfig(Section):
    """The texts of a task of the user's, which training must not have seen."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Files of JSON lines, or of a text a line (plain, .gz or .zst); `$NAME` is filled in."""
    fields: tuple[str, ...] = ("text",)
    """Fields of JSON lines whose texts count, each by itself; of a list, each of its texts."""


class DecontaminateConfig(Section):
    """N-grams of the evaluation tasks are cut out of training text (MT-NLG §3, GPT-3 appendix C)."""

    ngram_words: PositiveInt = 13
    minimum_words: PositiveInt = 8
    """A task text of minimum_words … ngram_words − 1 words is entered whole; a shorter one is ignored."""
    frequent: PositiveInt = 10
    """N-grams found this often or more in the training text are common language and not used."""
    margin_characters: NonNegativeInt = 200
    """Cut on each side of a match, then outward to the next sentence end, or else the next gap between words, by less
    than this again."""
    minimum_piece_characters: NonNegativeInt = 200
    """Remaining pieces of a document are kept if they are longer than this."""
    maximum_pieces: PositiveInt = 10
    """A document cut into more pieces is dropped."""
    tasks: dict[str, TaskTextConfig] = Field(default={})
    """Tasks by name, beside those whose items are cut from held-out documents."""


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


KEPT_FIELDS = (
    *("license", "licence", "date", "timestamp", "created", "added", "title", "author", "source", "meta", "metadata"),
)
"""Names under which corpora have what is worth keeping of a document beside its text."""
Separator = Annotated[str, Field(min_length=1, max_length=1000)]


class DatasetConfig(Section):
    """Documents of one origin, under a name.

    Text that is trusted need not be filtered; it is deduplicated and decontaminated like any other.
    """

    paths: tuple[str, ...] = Field(min_length=1)
    """Files, directories, patterns or addresses, as `sources`; `$NAME` is filled in."""
    language: bool = True
    """Whether documents in other languages are dropped."""
    heuristics: bool = True
    """Whether the document rules apply."""
    quality: bool = True
    """Whether the quality classifier judges."""
    licence: str | None = None
    """As you state it; told on the card, not checked."""
    most_documents: PositiveInt | None = None
    """At most so many of the documents that pass all filters are kept, drawn by a hash of their ids. None: all."""
    text_field: str | None = None
    """As `curate.text_field`, and so are the others below; None: what `curate` says."""
    url_field: str | None = None
    id_field: str | None = None
    metadata: tuple[str, ...] | None = None
    text_separator: Separator | None = None
    passage_characters: NonNegativeInt | None = None
    plain_text_pages: bool | None = None


class CurateConfig(Section):
    """From pages to documents."""

    LATER: ClassVar[tuple[str, ...]] = ("jsonl", "keep_dropped", "semantic")

    sources: tuple[str, ...] = ()
    """Files, directories, patterns or addresses of WARC, JSON, Parquet, CSV or text, also packed: https://, s3://,
    gs://, hf://, or cc:SNAPSHOT of Common Crawl. None: the crawl."""
    datasets: dict[str, DatasetConfig] = Field(default={})
    """In place of `sources`: by name, and in the order in which a duplicate's copy is kept."""
    against: tuple[str, ...] = ()
    """Artifacts of `curate` (what it kept) or of its documents (all) that stand already: what duplicates a document of
    theirs is dropped."""
    text_field: str | None = None
    """Field or column of the text, with dots for one within another (data.text). None: text, content, raw_content,
    document or body, in capitals too."""
    url_field: str | None = None
    """Field or column of the address. None: url, or that of `meta` or `metadata`, or the id."""
    id_field: str | None = None
    """Field or column of the id, which comes out as `source_id`. None: id."""
    metadata: tuple[str, ...] = KEPT_FIELDS
    """Fields or columns that are kept beside the text, as JSON of at most 8 kB; [*] keeps all others, [] none."""
    text_separator: Separator = "auto"
    """Separator of a text file's documents: file (none), line, blank_line, or a marker such as <|endoftext|>. auto:
    that marker where it stands, else passages of a text that stands for a corpus, else none."""
    passage_characters: NonNegativeInt = 8000
    """With `auto`, a text over 64 MB, or longer than two passages in a data set of fewer than 20 files, is cut between
    paragraphs into passages of about so many characters; 0: never."""
    plain_text_pages: bool = False
    """Whether pages of type text/plain in a WARC or ARC are documents."""
    jsonl: bool = False
    """Write both splits as JSON lines (.jsonl.zst) too."""
    keep_dropped: bool = False
    """Write the documents that were dropped too, each with the step and the reason."""
    extractor: Literal["resiliparse", "trafilatura", "justext"] = "resiliparse"
    """resiliparse is nine times faster; trafilatura leaves less boilerplate; justext is MT-NLG's."""
    seconds_per_document: PositiveFloat = 60.0
    """Processor time that reading the text out of one document may take; one that takes longer is dropped, and
    counted."""
    clean: CleanConfig = CleanConfig()
    languages: tuple[str, ...] = ("en",)
    """ISO 639-1 codes that are kept; none keeps all."""
    minimum_language_share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the text's bytes that must be in one of `languages`; with a `language_model`, their probability."""
    language_model: str | None = None
    """A fastText model of languages (.bin, .ftz), such as lid.176, in place of pycld2; `$NAME` is filled in."""
    urls: UrlConfig = UrlConfig()
    heuristics: HeuristicsConfig = HeuristicsConfig()
    quality: QualityConfig = QualityConfig()
    minhash: MinHashConfig = MinHashConfig()
    semantic: SemanticConfig = SemanticConfig()
    own: tuple[str, ...] = ()
    """Steps of your own, `file.py:function` or `module:function`: each takes a pyarrow.RecordBatch of documents and
    keeps, drops or tags them (docs/verbs/curate.md)."""
    repeats: RepeatsConfig = RepeatsConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()
    private: PrivateConfig = PrivateConfig()
    validation_share: float = Field(default=0.05, gt=0.0, lt=0.5)
    """Share of documents held out, by keyed hash of the document's text; the evaluation items are cut from these."""
    task_items: TaskItemsConfig = TaskItemsConfig()

    @property
    def paths(self) -> tuple[str, ...]:
        """All that is read, in order of priority."""
        return self.sources or tuple(path for dataset in self.datasets.values() for path in dataset.paths)

    @model_validator(mode="after")
    def _names_what_is_read_once(self) -> Self:
        if self.sources and self.datasets:
            raise ValueError("sources and datasets both say what is read: give one of them")
        taken = {"last_word", "continuation"} & set(self.decontaminate.tasks)
        if taken:
            raise ValueError(f"decontaminate.tasks.{min(taken)} is a task that curation makes: name yours otherwise")
        return self


class TokenizeConfig(Section):
    """Byte-level BPE, trained on the training split, or a tokenizer that stands, and the shards."""

    model_config = ConfigDict(serialize_by_alias=True)
    LATER: ClassVar[tuple[str, ...]] = ("tokenizer_from",)

    tokenizer_from: str | None = Field(default=None, alias="from")
    """In place of training one: a tokenizer.json, or the directory that holds it (or GPT-2's vocab.json and
    merges.txt); `$NAME` is filled in. model.vocab_size must hold its ids."""
    vocab_size: Dimension = 50257
    training_bytes: PositiveInt = 100_000_000
    """The tokenizer is trained on a sample of about this many bytes of training text."""

    @model_validator(mode="after")
    def _holds_the_bytes(self) -> Self:
        if self.vocab_size < 257:
            raise ValueError(f"vocab_size {self.vocab_size} is too small: 256 bytes and <|endoftext|> want 257")
        return self
