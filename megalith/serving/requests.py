"""The bodies that the endpoint reads, as OpenAI's API reference describes them for completions and chat.

A field that is unknown, out of range or not supported is refused by name: nothing that a client asks for is left out in
silence. `null` stands for a field's default. Beyond OpenAI's fields: `top_k`, `min_p` and `repetition_penalty`.
"""

from typing import Annotated, Any, Literal, TypeVar

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from megalith.serving.errors import ApiError

MOST_ALTERNATIVES = 20
MOST_CHOICES = 128
"""Choices of one request: its prompts times `n`."""
MOST_STOPS = 16
_MOST_TOKENS = 2**31 - 1
_SEED = 2**63
_QUICK = Field(fail_fast=True)  # one error is enough to tell

Prompt = (
    str
    | Annotated[list[str], _QUICK]
    | Annotated[list[int], _QUICK]
    | Annotated[list[Annotated[list[int], _QUICK]], _QUICK]
)
StopText = Annotated[str, Field(min_length=1, max_length=1000)]
Alternatives = Annotated[int, Field(ge=0, le=MOST_ALTERNATIVES)]
Tokens = Annotated[int, Field(ge=0, le=_MOST_TOKENS)]

_FORMS = {
    "prompt": "a text, a list of texts, a list of token ids, or a list of lists of token ids",
    "stop": f"a text, or a list of at most {MOST_STOPS} texts, none of them empty",
    "frequency_penalty": "0, since it is not supported: use 'repetition_penalty'",
    "presence_penalty": "0, since it is not supported: use 'repetition_penalty'",
    "logit_bias": "empty, since it is not supported",
    "suffix": "empty, since it is not supported",
    "tools": "empty, since tools are not supported",
    "messages": 'a list of messages such as {"role": "user", "content": "text"}',
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class StreamOptions(_Strict):
    """Options of a stream."""

    include_usage: bool = False
    """Whether a last chunk counts the tokens."""


class _Body(_Strict):
    model: Annotated[str, Field(max_length=1000)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES)] = 1
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=1, le=_MOST_TOKENS)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] = 1.0
    stop: StopText | Annotated[list[StopText], Field(max_length=MOST_STOPS, fail_fast=True)] | None = None
    seed: Annotated[int, Field(ge=-_SEED, lt=_SEED)] | None = None
    user: str | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    presence_penalty: Annotated[float, Field(ge=0, le=0)] = 0.0
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts before which the answer ends."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a chunk that counts the tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionRequest(_Body):
    """The body of `/v1/completions`."""

    prompt: Prompt
    max_tokens: Tokens = 16
    echo: bool = False
    logprobs: Alternatives | None = None
    best_of: int | None = None
    suffix: Annotated[str, Field(max_length=0)] | None = None

    @property
    def prompts(self) -> list[str] | list[list[int]]:
        """The prompts, each a text or token ids."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if prompt and isinstance(prompt[0], int):
            return [prompt]
        return prompt  # type: ignore[return-value]  # texts, or lists of ids


class TextPart(_Strict):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class Message(_Strict):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], _QUICK]
    name: str | None = None

    @property
    def fields(self) -> dict[str, str]:
        """The message as a chat template reads it."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": text} | ({} if self.name is None else {"name": self.name})


class ResponseFormat(_Strict):
    """The form of the answer: plain text alone is supported."""

    type: Literal["text"]


class ChatRequest(_Body):
    """The body of `/v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1, fail_fast=True)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    logprobs: bool = False
    top_logprobs: Alternatives | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None

    @property
    def token_limit(self) -> int | None:
        """The most tokens of the answer; None: as many as the context holds."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


Body = TypeVar("Body", CompletionRequest, ChatRequest)


def read(kind: type[Body], data: bytes) -> Body:
    """The request in a body of JSON.

    Raises ApiError (400) for what is not JSON, for a field that is unknown, missing, of another kind or out of range,
    and for a combination that has no meaning.
    """
    try:
        given = pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"The body of this request is not JSON: {error}.", code="invalid_json") from None
    if not isinstance(given, dict):
        raise ApiError(400, "The body of this request is not a JSON object.", code="invalid_json")
    unknown = next((name for name in given if name not in kind.model_fields), None)
    if unknown is not None:
        name = unknown[:100]
        raise ApiError(
            400, f"'{name}' is not a field that this server supports.", param=name, code="unsupported_parameter"
        )
    try:
        request = kind.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise _refused(error) from None
    _check_together(request)
    return request


def _refused(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0])
    if first["type"] == "missing":
        where = ".".join(str(step) for step in first["loc"])
        return ApiError(400, f"'{where}' is missing.", param=name, code="missing_required_parameter")
    said = first["msg"][:1].lower() + first["msg"][1:]
    form = _FORMS.get(name)
    told = f"'{name}' should be {form}" if form else f"'{name}': {said}"
    if len(first["loc"]) > 1 and form is not None:
        told += f" (at {'.'.join(str(step) for step in first['loc'])}: {said})"
    return ApiError(400, f"{told}.", param=name, code="invalid_value")


def _check_together(request: CompletionRequest | ChatRequest) -> None:
    if request.stream_options is not None and not request.stream:
        raise ApiError(400, "'stream_options' is for a stream: set 'stream' too.", param="stream_options")
    if isinstance(request, ChatRequest):
        if request.top_logprobs is not None and not request.logprobs:
            raise ApiError(400, "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
        if None not in (request.max_tokens, request.max_completion_tokens):
            raise ApiError(400, "'max_tokens' and 'max_completion_tokens' are the same: set one.", param="max_tokens")
        if request.token_limit == 0:
            raise ApiError(400, "'max_completion_tokens' should be at least 1.", param="max_completion_tokens")
        return
    if not request.prompts:
        raise ApiError(400, "'prompt' is an empty list.", param="prompt")
    if request.best_of not in (None, request.n):
        raise ApiError(400, "'best_of' is not supported: leave it out.", param="best_of")
    if len(request.prompts) * request.n > MOST_CHOICES:
        choices = len(request.prompts) * request.n
        raise ApiError(
            400, f"{choices:,} choices (prompts times n) are more than one request may have ({MOST_CHOICES}).",
            param="n" if request.n > 1 else "prompt",
        )  # fmt: skip
