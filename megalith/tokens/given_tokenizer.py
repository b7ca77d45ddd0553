"""The tokenizer of shards that stand already: `tokenizer.json`, or GPT-2's `vocab.json` and `merges.txt`."""

from collections.abc import Sequence
from pathlib import Path

import tokenizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from megalith.errors import InputError
from megalith.input_files import expand, read_json
from megalith.tokens.conventions import END_OF_TEXT, GENERATION, Conventions, read_conventions
from megalith.tokens.tokenizer import Tokenizer

TOKENIZER = "tokenizer.json"
ENDS_OF_TEXT = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[EOS]", "<|im_end|>")
"""Spellings by which a tokenizer's end of text is known where nothing else tells it, the likeliest first."""
_PAIRS = (("vocab.json", "merges.txt"), ("gpt2-vocab.json", "gpt2-merges.txt"))
_WHERE = "tokens.tokenizer"
_BESIDE = ("tokenizer_config.json", "special_tokens_map.json")
"""Files of Hugging Face's that name the end of text of the tokenizer.json beside them."""


def tokenizer_files(named: Sequence[str], where: str = _WHERE) -> tuple[Path, ...]:
    """The files that a key of the recipe names: one tokenizer.json, or a vocabulary and its merges.

    `generation.json` beside a tokenizer.json comes with it. Raises InputError where they are missing.
    """
    paths = [expand(Path(name), where=where) for name in named]
    if len(paths) == 1 and paths[0].is_dir():
        paths = _within(paths[0])
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            "there is no tokenizer here.",
            where=str(missing[0]),
            mend="Name a tokenizer.json, or [vocab.json, merges.txt], or the directory that holds them.",
        )
    beside = paths[0].with_name(GENERATION)
    return (*paths, beside) if len(paths) == 1 and beside.is_file() else tuple(paths)


def read_given_tokenizer(files: Sequence[Path], ending: int | None) -> Tokenizer:
    """The tokenizer in `files`, with the conventions that lie beside it, or else those that its own names tell.

    `ending` is the id with which the documents end: of several ends of text, the tokenizer's is that one. Raises
    InputError where the files cannot be read or no end of text is known.
    """
    conventions = read_conventions(files[0].parent) if files[-1].name == GENERATION else None
    model = _read(files[0]) if len(files) == 1 or conventions is not None else _read_gpt2(files[0], files[1])
    return Tokenizer(model, conventions or _conventions(model, ending, files[0]))


def read_tokenizer_to_train_with(files: Sequence[Path]) -> Tokenizer:
    """The tokenizer in `files` for a model that begins from nothing: its end of text stands before and after each text.

    The end of text is what `generation.json`, `tokenizer_config.json` or `special_tokens_map.json` beside it says, or
    else the likeliest of its own tokens. Raises InputError where the files cannot be read or no end of text is known.
    """
    if files[-1].name == GENERATION:
        return read_given_tokenizer(files, None)
    model = _read_any(files)
    named = _end_beside(files[0].parent)
    end = None if named is None else model.token_to_id(named)
    if end is None:
        end = _conventions(model, None, files[0]).document_end
    return Tokenizer(model, Conventions(prefix=end, end_of_text=(end,)))


def _read_any(files: Sequence[Path]) -> tokenizers.Tokenizer:
    return _read(files[0]) if len(files) == 1 else _read_gpt2(files[0], files[1])


def _end_beside(directory: Path) -> str | None:
    """The spelling of the end of text that Hugging Face's files in a directory name."""
    for name in _BESIDE:
        if (directory / name).is_file():
            said = read_json(directory / name)
            end = said.get("eos_token") if isinstance(said, dict) else None
            end = end.get("content") if isinstance(end, dict) else end
            if isinstance(end, str):
                return end
    return None


def _conventions(model: tokenizers.Tokenizer, ending: int | None, file: Path) -> Conventions:
    known = [number for token in ENDS_OF_TEXT if (number := model.token_to_id(token)) is not None]
    if not known:
        raise InputError(
            f"this tokenizer has none of {', '.join(ENDS_OF_TEXT)}, so that its end of text is not known.",
            where=str(file),
            mend=f'Write {{"prefix": null, "end_of_text": [ID]}} into {GENERATION} beside it.',
        )
    end = ending if ending in known else known[0]
    return Conventions(prefix=end if ending == end else None, end_of_text=(end,))


def _within(directory: Path) -> list[Path]:
    whole = directory / TOKENIZER
    pairs = [[directory / name for name in pair] for pair in _PAIRS]
    if whole.is_file():
        return [whole]
    return next((pair for pair in pairs if all(path.is_file() for path in pair)), [whole])


def _read(file: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"this is not a tokenizer.json: {error}.", where=str(file)) from error


def _read_gpt2(vocabulary: Path, merges: Path) -> tokenizers.Tokenizer:
    try:
        model = tokenizers.Tokenizer(BPE.from_file(str(vocabulary), str(merges)))
    except Exception as error:
        raise InputError(
            f"these are not a byte-level BPE's vocabulary and merges: {error}.",
            where=f"{vocabulary}, {merges}",
            mend="Name GPT-2's vocab.json first, then its merges.txt.",
        ) from error
    model.pre_tokenizer = ByteLevel(add_prefix_space=False)
    model.decoder = ByteLevelDecoder()
    if model.token_to_id(END_OF_TEXT) is not None:
        model.add_special_tokens([END_OF_TEXT])
    return model
