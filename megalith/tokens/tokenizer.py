"""Tokenizers, run by Hugging Face's `tokenizers`: the byte-level BPE that Megalith trains, and those of other models.

In ours (GPT-2's, Radford et al. 2019, §2.2) every byte is an entry, so any text can be encoded and comes back
unchanged. `<|endoftext|>` is id 0, the bytes follow, then the merges in the order in which they were found. A BERT's
four tokens (Devlin et al. 2018, §3) come right after `<|endoftext|>` where they are asked for. Any other
`tokenizer.json` is taken with the model's `generation.json` beside it. A text is plain text here: one that spells out
`<|endoftext|>` or `[MASK]` is encoded letter by letter and can never forge the end of a document. Chat templates, which
do mean such tokens, have `encode_with_specials`.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

# One thread unless `all_cores` says otherwise; saying so keeps a later fork free of warnings and deadlocks.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import tokenizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer

from megalith.errors import InputError
from megalith.tokens.conventions import END_OF_TEXT, END_OF_TEXT_ID, OURS, Conventions, read_conventions
from megalith.tokens.token_bytes import bytes_of_tokens, parts

BERT_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
PIECE_CHARACTERS = 1 << 16
RUN_CHARACTERS = 1 << 20
"""A run without a gap, or of white space alone, is cut every so many characters: a library holds a hundred bytes for
each character of what it encodes at once."""
TRAINED_CHARACTERS = 512
"""The same for one word as the trainer sees it: its time grows with the square of a word's length."""


@dataclass(frozen=True)
class SpecialTokens:
    """The ids of the tokens that no text has and of which a BERT's samples are made."""

    end_of_text: int
    pad: int
    cls: int
    sep: int
    mask: int

    @property
    def ids(self) -> tuple[int, ...]:
        """All of them, in rising order."""
        return tuple(sorted(set(astuple(self))))


class Tokenizer:
    """A trained tokenizer: text to ids and back."""

    def __init__(self, model: tokenizers.Tokenizer, conventions: Conventions = OURS) -> None:
        """Take the library's tokenizer, which is changed: it neither cuts nor pads, nor drops merges at random."""
        model.encode_special_tokens = True  # HF's word for: a special token's spelling within a text is plain text
        model.no_truncation()
        model.no_padding()
        if getattr(model.model, "dropout", None):
            model.model.dropout = None
        self._model = model
        self._may_cut = _may_be_cut(model)
        self.vocab_size: int = max(model.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        """One more than the largest id; in ours the entries, bytes and `<|endoftext|>` included."""
        self.conventions = conventions
        self.end_of_text = conventions.document_end
        """The id that follows each document."""
        self.ends = frozenset(conventions.end_of_text)
        """The ids that end a generated text."""
        self.prefix = conventions.prefix
        """The id in front of every text, or None."""
        begin = conventions.begin_of_text if self.prefix is None else self.prefix
        self.first = self.end_of_text if begin is None else begin
        """The id that stands in front of a text's first token where that is to be predicted."""
        ids: list[int] = [number for token in BERT_TOKENS if (number := model.token_to_id(token)) is not None]
        self.special = SpecialTokens(self.end_of_text, *ids) if len(ids) == len(BERT_TOKENS) else None
        """A BERT's special tokens; None where it was trained without them."""

    @cached_property
    def token_bytes(self) -> tuple[bytes, ...] | None:
        """The bytes of text that each token stands for, by id; None where tokens do not keep all of the text."""
        return bytes_of_tokens(self._model)

    @cached_property
    def added_tokens(self) -> dict[int, str]:
        """The spelling of each token that text is not made of, by id: those of `encode_with_specials`."""
        return {number: token.content for number, token in self._model.get_added_tokens_decoder().items()}

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, with nothing put before or after.

        A lone surrogate is no Unicode text and has no UTF-8; it is read as U+FFFD.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text; within `all_cores`, on every core."""
        pieces = [list(self._pieces(whole_characters(text))) for text in texts]
        flat = [piece for text in pieces for piece in text]
        encodings = iter(self._model.encode_batch_fast(flat, add_special_tokens=False))
        ids = ([next(encodings).ids for _ in text] for text in pieces)
        return [own[0] if len(own) == 1 else list(chain.from_iterable(own)) for own in ids]

    def encode_with_specials(self, text: str) -> list[int]:
        """The ids of `text`, in which the spelling of a special token is that token, with nothing put before or after.

        For the text that a chat template makes; what others wrote must not pass through here by itself.
        """
        ids: list[int] = self._with_specials.encode(whole_characters(text), add_special_tokens=False).ids
        return ids

    def with_prefix(self, ids: Sequence[int]) -> list[int]:
        """`ids` as the model reads them: after its prefix, if it has one, and never empty."""
        if self.prefix is not None:
            return [self.prefix, *ids]
        return list(ids) or [self.first]

    def decode(self, ids: Sequence[int], *, after_text: bool = False) -> str:
        """The text of `ids`; bytes that are not whole UTF-8 characters become U+FFFD.

        In sentencepiece's manner a text begins without the space of its first token; `after_text` keeps it.
        """
        if after_text and self.token_bytes is not None:
            known = [self.token_bytes[number] for number in ids if number < len(self.token_bytes)]
            return b"".join(known).decode(errors="replace")
        text: str = self._model.decode(ids, skip_special_tokens=False)
        return text

    @cached_property
    def _with_specials(self) -> tokenizers.Tokenizer:
        return tokenizers.Tokenizer.from_str(self._model.to_str())

    def _pieces(self, text: str) -> Iterator[str]:
        return split_long(text) if self._may_cut else iter([text])

    def save(self, path: Path) -> None:
        """Write `tokenizer.json`, which Hugging Face's libraries read."""
        path.write_text(self.to_json() + "\n", encoding="utf-8")

    def to_json(self) -> str:
        """Return the content of `tokenizer.json`."""
        text: str = self._model.to_str(pretty=True)
        return text


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a `tokenizer.json`, given by file or by the directory it lies in, with `generation.json` if it has one.

    Raises InputError when it is missing, damaged, or without `generation.json` and its id 0 is not `<|endoftext|>`.
    """
    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError("there is no tokenizer here.", where=str(file), mend="Run `megalith tokenize` first.")
    try:
        model = tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing narrower
        raise InputError(
            f"this is not a tokenizer.json: {error}.", where=str(file), mend="Run `megalith tokenize` again."
        ) from error
    conventions = read_conventions(file.parent)
    if conventions is None and model.token_to_id(END_OF_TEXT) != END_OF_TEXT_ID:
        raise InputError(
            f"id {END_OF_TEXT_ID} of this tokenizer is not {END_OF_TEXT}.",
            where=str(file),
            mend="Name one that Megalith trained, or import the model that it belongs to with `megalith import`.",
        )
    tokenizer = Tokenizer(model, conventions or OURS)
    beyond = [number for number in tokenizer.conventions.ids if not 0 <= number < tokenizer.vocab_size]
    if beyond:
        raise InputError(
            f"generation.json names token {beyond[0]}, and the tokenizer beside it has {tokenizer.vocab_size}.",
            where=str(file.parent),
            mend="Import the model again.",
        )
    return tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int, special_tokens: Sequence[str] = ()) -> Tokenizer:
    """Train a byte-level BPE of at most `vocab_size` entries, `<|endoftext|>` and `special_tokens` among them.

    The same texts give the same tokenizer, to the byte. Merges stop when no pair occurs twice, so a small corpus
    gives fewer entries.
    """
    model = tokenizers.Tokenizer(BPE())
    model.pre_tokenizer = ByteLevel(add_prefix_space=False)
    model.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT, *special_tokens],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    pieces = (part for text in texts for piece in split_long(text) for part in _cut_words(piece))
    model.train_from_iterator(pieces, trainer)
    return Tokenizer(model)


@contextlib.contextmanager
def all_cores() -> Iterator[None]:
    """Within the block the tokenizer runs on every core that this process may use (or RAYON_NUM_THREADS).

    Do not fork within it: the child would wait for threads that it does not have.
    """
    before = os.environ["TOKENIZERS_PARALLELISM"]
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    try:
        yield
    finally:
        os.environ["TOKENIZERS_PARALLELISM"] = before


def utf8_bytes(text: str) -> int:
    """Length in UTF-8, the unit of bits per byte."""
    return len(whole_characters(text).encode())


def whole_characters(text: str) -> str:
    """`text` with each lone surrogate replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text)
    return text


def split_long(text: str, characters: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Cut `text` into pieces of about `characters`, only where the encoding of the whole has a boundary anyway.

    No match of GPT-2's splitting pattern runs from a character that is not a space into a space, nor does one that ends
    there look further. A text without such a place is not cut, but for what `cut_runs` cuts.
    """
    for run in cut_runs(text):
        start = 0
        while len(run) - start > characters:
            cut = _BEFORE_SPACE.search(run, start + characters - 1)
            if cut is None:
                break
            yield run[start : cut.end()]
            start = cut.end()
        yield run[start:]


def cut_runs(text: str) -> Iterator[str]:
    """Cut each run of more than RUN_CHARACTERS without white space, or of white space alone, into pieces of so many.

    No language has such a run; its ids are those of its pieces.
    """
    return _cut(text, _LONG_RUN, RUN_CHARACTERS) if len(text) > RUN_CHARACTERS else iter([text])


def _may_be_cut(model: tokenizers.Tokenizer) -> bool:
    """Whether the pieces of `split_long` are encoded as within the whole: where words are GPT-2's."""
    words = [part for part in parts(model.pre_tokenizer) if part["type"] != "Digits"]
    gpt2 = [part["type"] == "ByteLevel" and part["use_regex"] and not part["add_prefix_space"] for part in words]
    return model.normalizer is None and gpt2 == [True]


def _cut_words(text: str) -> Iterator[str]:
    """Cut what the splitting pattern would give the trainer as one word of more than TRAINED_CHARACTERS."""
    if max(map(len, text.split()), default=0) <= TRAINED_CHARACTERS and not _LONG_GAP.search(text):
        return iter([text])
    return _cut(text, _LONG_WORD, TRAINED_CHARACTERS)


def _cut(text: str, runs: re.Pattern[str], length: int) -> Iterator[str]:
    start = 0
    for run in runs.finditer(text):
        for place in range(run.start() + length, run.end(), length):
            yield text[start:place]
            start = place
    yield text[start:]


def _runs(length: int, *kinds: str) -> re.Pattern[str]:
    """Runs of more than `length` characters of one kind; each is looked at once, from its start."""
    return re.compile("|".join(f"(?<!{kind}){kind}{{{length + 1},}}+" for kind in kinds))


_SURROGATES = re.compile("[\ud800-\udfff]")
_BEFORE_SPACE = re.compile(r"\S(?=[ \n])")
_LONG_RUN = _runs(RUN_CHARACTERS, r"\S", r"\s")
_LONG_GAP = re.compile(rf"\s{{{TRAINED_CHARACTERS + 1}}}")
_LONG_WORD = _runs(TRAINED_CHARACTERS, r"[^\W\d_]", r"\d", r"[^\w\s]", r"_", r"\s")
