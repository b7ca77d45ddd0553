"""From the prompts of a request to token ids that fit the model's context.

Every text begins with the model's prefix token, if it has one (of ours: the end of text), as in training. It is put
before a prompt unless the prompt's ids begin with it; it is neither echoed nor counted. So an echoed prompt has the
log-probabilities that `inference.score` gives, whether it comes as text or as ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from megalith.errors import InputError
from megalith.inference import LanguageModel, encode_chat
from megalith.serving.errors import ApiError
from megalith.serving.requests import ChatRequest, CompletionRequest

_SLACK = 4
"""Some tokenizers shorten a text (white space, accents) before they split it."""


@dataclass(frozen=True)
class Prompt:
    """The token ids of one prompt."""

    ids: tuple[int, ...]
    """As the model reads them."""
    hidden: int
    """Ids at the start that the client did not send: 1 for the prefix, else 0."""

    @property
    def shown(self) -> tuple[int, ...]:
        """The ids that were sent."""
        return self.ids[self.hidden :]


def encode(lm: LanguageModel, request: CompletionRequest) -> list[Prompt]:
    """The ids of each prompt; ApiError (400) for an id that the tokenizer does not have, and for an empty prompt."""
    given = request.prompts
    texts = [prompt for prompt in given if isinstance(prompt, str)]
    if texts:
        _check_lengths(lm, texts)
        return [_with_prefix(lm, ids) for ids in lm.tokenizer.encode_batch(texts)]
    found = []
    for ids in given:
        wrong = next((one for one in ids if not 0 <= int(one) < lm.tokenizer.vocab_size), None)
        if wrong is not None:
            known = lm.tokenizer.vocab_size
            raise ApiError(
                400, f"'prompt': {str(wrong)[:20]} is not a token id: the model has {known:,}.", param="prompt"
            )
        found.append(_with_prefix(lm, [int(one) for one in ids]))
    return found


def encode_conversation(lm: LanguageModel, request: ChatRequest) -> list[Prompt]:
    """The ids of a conversation as the model's chat template writes it.

    Raises ApiError (400) where the model has none, and where its template refuses these messages.
    """
    if lm.tokenizer.conventions.chat_template is None:
        raise ApiError(
            400, "This model has no chat template: use /v1/completions.", param="messages", code="no_chat_template"
        )
    try:
        ids = encode_chat(lm.tokenizer, [message.fields for message in request.messages])
    except InputError as error:
        raise ApiError(400, f"'messages': {error}", param="messages", code="invalid_value") from None
    return [Prompt(tuple(ids), 0)]


def tokens_allowed(lm: LanguageModel, prompts: Sequence[Prompt], wanted: int | None, *, param: str) -> int:
    """The most tokens to draw: `wanted`, or as many as fit.

    Raises ApiError (400) where the longest prompt and they do not fit the context; the last token need not fit, since
    the model never reads it.
    """
    limit = lm.config.sequence_length
    longest = max(len(prompt.ids) for prompt in prompts)
    room = limit - longest + 1
    if room < 1 or (wanted or 0) > room:
        asked = f"the prompt has {longest:,} tokens" + (f" and {wanted:,} more are asked for" if wanted else "")
        raise ApiError(
            400,
            f"This model's context holds {limit:,} tokens; {asked}.",
            param=param,
            code="context_length_exceeded",
        )
    return room if wanted is None else wanted


def _check_lengths(lm: LanguageModel, texts: Sequence[str]) -> None:
    """Refuse a text that cannot fit whatever its tokens are, without the seconds that it takes to find them."""
    longest = max(map(len, lm.tokenizer.token_bytes or (b"",)))
    most = _SLACK * longest * lm.config.sequence_length
    length = max(len(text.encode()) for text in texts)
    if longest and length > most:
        raise ApiError(
            400,
            f"This model's context holds {lm.config.sequence_length:,} tokens of at most {longest:,} bytes; "
            f"the prompt has {length:,} bytes.",
            param="prompt",
            code="context_length_exceeded",
        )


def _with_prefix(lm: LanguageModel, ids: Sequence[int]) -> Prompt:
    if ids and ids[0] == lm.tokenizer.prefix:
        return Prompt(tuple(ids), 0)
    read = tuple(lm.tokenizer.with_prefix(ids))
    return Prompt(read, len(read) - len(ids))
