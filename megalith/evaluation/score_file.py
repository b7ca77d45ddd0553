"""A file of requests to a file of scores, a line each, in the order of the requests.

Scores are kept in a file beside the result as they come, each with the number of its line, so that a run that was
killed goes on where it stopped; the file's first line says of which requests, model and settings they are.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from megalith.artifacts import whole
from megalith.errors import InputError
from megalith.inference import Boundary, LanguageModel, Prefix, Request, Score, score_as_read
from megalith.inference.spans import spans_of
from megalith.input_files import parse_json

PARTIAL = ".partial"
"""Added to the name of the result: the scores that are known while it is not whole."""
_FORM = 'Write {"id": …, "context": "…", "choices": [{"continuation": "…"}]}, one a line.'


@dataclass(frozen=True)
class ScoreSettings:
    """How requests are scored; see `inference.score`."""

    prefix: Prefix = "auto"
    boundary: Boundary = "lm_eval"
    batch_tokens: int = 4096
    batch_invariant: bool = False
    too_long: Literal["truncate", "error"] = "truncate"


@dataclass(frozen=True)
class Asked:
    """A line of the file of requests."""

    line: int
    id: Any
    request: Request


@dataclass
class Summary:
    """Counts over a file of scores."""

    requests: int = 0
    choices: int = 0
    tokens: int = 0
    """Scored tokens."""
    truncated: int = 0
    """Choices whose context was cut from the left to fit the model's context."""
    straddled: int = 0
    """Choices whose scored tokens do not begin where the continuation does."""
    resumed: int = 0
    """Requests that an earlier run had scored."""

    def add(self, scores: tuple[Score, ...]) -> None:
        """Count the scores of a request."""
        self.requests += 1
        self.choices += len(scores)
        self.tokens += sum(score.tokens for score in scores)
        self.truncated += sum(score.truncated for score in scores)
        self.straddled += sum(score.straddled for score in scores)


def read_requests(path: Path) -> list[Asked]:
    """The requests in a file of JSON lines. Raises InputError with the number of a line that holds none."""
    asked = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    asked.append(_asked(number, line, f"{path}, line {number}"))
    except OSError as error:
        raise InputError(f"this file cannot be read: {error.strerror}.", where=str(path)) from error
    if not asked:
        raise InputError("this file has no requests.", where=str(path), mend=_FORM)
    return asked


def score_file(
    lm: LanguageModel,
    asked: list[Asked],
    output: Path,
    settings: ScoreSettings,
    origin: Mapping[str, Any],
    advance: Callable[[int, int], object] = lambda done, total: None,
) -> Summary:
    """Write the scores of all requests to `output`, a line each in their order; it is whole or absent.

    `origin` names whatever else decides the scores (the digests of model and requests, the precision): scores that a
    killed run left beside `output` are taken where it is the same. Raises InputError as `inference.score` does, and for
    a request that is too long where settings say so.
    """
    if settings.too_long == "error":
        _refuse_long(lm, asked, settings)
    deciding = {key: value for key, value in asdict(settings).items() if key not in ("batch_tokens", "too_long")}
    digest = hashlib.sha256(json.dumps({**origin, **deciding}, sort_keys=True).encode()).hexdigest()
    partial = output.with_name(output.name + PARTIAL)
    known = _read_partial(partial, digest, len(asked))
    left = [place for place in range(len(asked)) if place not in known]
    resumed = len(known)
    advance(resumed, len(asked))
    with _journal(partial, digest, known) as keep:
        for number, scores in score_as_read(
            lm,
            [asked[place].request for place in left],
            settings.batch_tokens,
            lambda done, total: advance(resumed + done, len(asked)),
            prefix=settings.prefix,
            boundary=settings.boundary,
            batch_invariant=settings.batch_invariant,
        ):
            known[left[number]] = scores
            keep(left[number], scores)
    summary = Summary(resumed=resumed)
    with whole(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        for place, one in enumerate(asked):
            summary.add(known[place])
            file.write(json.dumps(_row(one.id, known[place]), ensure_ascii=False) + "\n")
    partial.unlink()
    return summary


def _row(name: Any, scores: tuple[Score, ...]) -> dict[str, Any]:
    return {
        "id": name,
        "log_probabilities": [score.log_probability for score in scores],
        "greedy": [score.greedy for score in scores],
        "tokens": [score.tokens for score in scores],
    }


def _asked(number: int, line: bytes, where: str) -> Asked:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError("this line is not UTF-8.", where=where, mend="Save the file as UTF-8.") from error
    value = parse_json(text, where=where, mend=_FORM)
    if not isinstance(value, dict):
        raise InputError("this line is not a JSON object.", where=where, mend=_FORM)
    if missing := [key for key in ("id", "context", "choices") if key not in value]:
        raise InputError(f"this request has no {' and no '.join(missing)}.", where=where, mend=_FORM)
    if not isinstance(value["context"], str):
        raise InputError("the context of this request is not a text.", where=where, mend=_FORM)
    choices = value["choices"]
    if not isinstance(choices, list) or not choices:
        raise InputError("the choices of this request are not a list of at least one.", where=where, mend=_FORM)
    texts: list[str] = []
    for place, choice in enumerate(choices, start=1):
        found = choice.get("continuation") if isinstance(choice, dict) else choice
        if not isinstance(found, str) or not found:
            fault = "is empty" if found == "" else "has no text under continuation"
            raise InputError(f"choice {place} of this request {fault}.", where=where, mend=_FORM)
        texts.append(found)
    return Asked(number, value["id"], Request(value["context"], tuple(texts)))


def _refuse_long(lm: LanguageModel, asked: list[Asked], settings: ScoreSettings) -> None:
    """Tokens are at least a byte each, so that short texts need not be tokenised."""
    limit = lm.config.sequence_length
    for one in asked:
        longest = max(len((one.request.context + text).encode()) for text in one.request.continuations)
        if longest < limit:
            continue
        spans = spans_of(lm, [one.request], settings.prefix, settings.boundary)
        if any(span.is_longer_than(limit) for span in spans):
            tokens = max(len(span.ids) for span in spans)
            raise InputError(
                f"the request in line {one.line} has {tokens:,} tokens with its longest choice, and the model reads "
                f"{limit:,}.",
                where="--too-long",
                mend="Shorten it, or set --too-long truncate: contexts are then cut from the left and counted.",
            )


def _read_partial(path: Path, digest: str, count: int) -> dict[int, tuple[Score, ...]]:
    """The scores of a killed run, by place; none where they are of something else. A torn last line is left out."""
    known: dict[int, tuple[Score, ...]] = {}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError), path.open(encoding="utf-8") as file:
        if json.loads(file.readline())["digest"] != digest:
            return {}
        for line in file:
            row = json.loads(line)
            if line.endswith("\n") and 0 <= row["place"] < count:
                known[row["place"]] = tuple(Score(**score) for score in row["scores"])
    return known


@contextlib.contextmanager
def _journal(
    path: Path, digest: str, known: Mapping[int, tuple[Score, ...]]
) -> Iterator[Callable[[int, tuple[Score, ...]], None]]:
    """Yield what writes a request's scores; those that are known are written first."""

    def write(file: BinaryIO, value: Mapping[str, Any]) -> None:
        file.write(json.dumps(value).encode() + b"\n")
        file.flush()

    def row(place: int, scores: tuple[Score, ...]) -> dict[str, Any]:
        return {"place": place, "scores": [asdict(score) for score in scores]}

    with whole(path) as temporary, temporary.open("wb") as file:
        write(file, {"digest": digest})
        for place, scores in known.items():
            write(file, row(place, scores))
    with path.open("ab") as file:
        yield lambda place, scores: write(file, row(place, scores))
