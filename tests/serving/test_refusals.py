"""Bodies that are refused, each by the field at fault and in OpenAI's form."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from megalith.inference import LanguageModel
from tests.serving.servers import MODEL, Server, serving


@pytest.fixture(scope="module")
def server(lm: LanguageModel) -> Iterator[Server]:
    with serving(lm, body_limit_bytes=100_000) as made:
        yield made


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tempreature": 1}, "tempreature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"min_p": -1}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"prompt": ["a"] * 65, "n": 2}, "n"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": 1}, "echo"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"other": True}}, "stream_options"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [[1], "a"]}, "prompt"),
        ({"prompt": [[1, None]]}, "prompt"),
        ({"prompt": [400]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [10**40]}, "prompt"),
        ({"prompt": [[1], [2.5]]}, "prompt"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -0.5}, "frequency_penalty"),
        ({"model": 5}, "model"),
        ({"model": None}, "model"),
        ({"prompt": None}, "prompt"),
    ],
)
def test_a_field_that_is_wrong_is_named(server: Server, fields: dict[str, Any], param: str) -> None:
    body = {"model": MODEL, "prompt": "The", **fields}
    error = server.refused(400, server.ask("POST", "/v1/completions", body))
    assert error["param"] == param and param in error["message"] and error["type"] == "invalid_request_error"


def test_null_and_fields_that_change_nothing_are_taken(server: Server) -> None:
    nothing = {"stop": None, "logprobs": None, "suffix": "", "logit_bias": {}, "best_of": 1, "user": "u", "top_k": None}
    answer = server.complete("The", max_tokens=1, frequency_penalty=0, presence_penalty=0.0, temperature=1, **nothing)
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"model": "small", "prompt": "The", "temperature": NaN}',
        b'{"model": "small", "prompt": "The", "temperature": Infinity}',
        b'{"model": "small", "prompt": "\\ud800"}',
        b'{"model": "small", "prompt": "\xff"}',
        b"[" * 90_000,
        b'{"prompt": ' + b'{"a":' * 15_000,
    ],
    ids=range(12),
)
def test_what_is_no_json_object_is_refused(server: Server, body: bytes) -> None:
    assert server.refused(400, server.ask("POST", "/v1/completions", body))["code"] == "invalid_json"


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 5000, "1." + "9" * 5000])
def test_a_number_of_any_length_is_refused_as_out_of_range(server: Server, number: str) -> None:
    for field in ("temperature", "max_tokens", "seed"):
        body = f'{{"model": "small", "prompt": "The", "{field}": {number}}}'.encode()
        answer = server.ask("POST", "/v1/completions", body)
        if not (field == "temperature" and number.startswith("1.")):
            assert server.refused(400, answer)["param"] in (field, None)


def test_another_model_is_not_found(server: Server) -> None:
    for path in ("/v1/completions", "/v1/chat/completions"):
        body = {"model": "gpt-5", "prompt": "The"} if "chat" not in path else {"model": "gpt-5", "messages": [SAID]}
        error = server.refused(404, server.ask("POST", path, body))
        assert error["param"] == "model" and error["code"] == "model_not_found" and MODEL in error["message"]


SAID = {"role": "user", "content": "Hello"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "messages"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": 2}, "logprobs"),
        ({"tools": [{}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"prompt": "The"}, "prompt"),
        ({"echo": True}, "echo"),
    ],
)
def test_a_field_of_chat_that_is_wrong_is_named(server: Server, fields: dict[str, Any], param: str) -> None:
    body = {"model": MODEL, "messages": [SAID], **fields}
    assert server.refused(400, server.ask("POST", "/v1/chat/completions", body))["param"] == param


def test_a_model_without_a_chat_template_says_so(server: Server) -> None:
    error = server.refused(400, server.ask("POST", "/v1/chat/completions", {"model": MODEL, "messages": [SAID]}))
    assert error["code"] == "no_chat_template"


def test_routes_and_methods_that_are_unknown(server: Server) -> None:
    assert server.refused(404, server.ask("GET", "/v1/embeddings"))["code"] == "unknown_route"
    assert server.refused(405, server.ask("GET", "/v1/completions"))["code"] == "method_not_allowed"
    assert server.refused(405, server.ask("POST", "/v1/models"))["code"] == "method_not_allowed"


def test_a_body_of_many_wrong_fields_is_refused_at_once(server: Server) -> None:
    many = json.dumps({"model": MODEL, "prompt": [[1, "x"]] * 5000}).encode()
    assert server.refused(400, server.ask("POST", "/v1/completions", many))["param"] == "prompt"
    body = {"model": MODEL, "prompt": "The", **{f"field{number}": 1 for number in range(4000)}}
    assert server.refused(400, server.ask("POST", "/v1/completions", body))["param"] == "field0"
