"""`/v1/completions`: the echo contract, log-probabilities, streams, choices and stops."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import WordLevel

from megalith.inference import LanguageModel, Request, load_model, score
from megalith.tokens import Conventions, Tokenizer
from tests.inference.models import one_by_one, write_model
from tests.serving.servers import MODEL, Server, serving

TEXT = "Naïve 石は: “42”?"


@pytest.fixture(scope="module")
def server(lm: LanguageModel) -> Iterator[Server]:
    with serving(lm) as made:
        yield made


def test_an_echoed_text_has_the_log_probabilities_of_score(server: Server, lm: LanguageModel) -> None:
    context, continuation = "The baker said", " that the nurse was a man"
    ((scored,),) = score(lm, [Request(context, (continuation,))], 64)
    shown = server.complete(context + continuation, echo=True, logprobs=1, max_tokens=0).json["choices"][0]["logprobs"]
    first = next(at for at, offset in enumerate(shown["text_offset"]) if offset >= len(context))
    assert sum(shown["token_logprobs"][first:]) == pytest.approx(scored.log_probability, abs=1e-4)


@pytest.mark.parametrize("drawn", [0, 1])
def test_the_echo_contract(server: Server, lm: LanguageModel, drawn: int) -> None:
    ids = lm.tokenizer.encode(TEXT)
    by_text = server.complete(TEXT, echo=True, logprobs=2, max_tokens=drawn, temperature=0).json["choices"][0]
    by_ids = server.complete(ids, echo=True, logprobs=2, max_tokens=drawn, temperature=0).json["choices"][0]
    assert by_text == by_ids
    shown = by_text["logprobs"]
    assert by_text["text"].startswith(TEXT) and (drawn or by_text["text"] == TEXT)
    assert {len(column) for column in shown.values()} == {len(ids) + drawn}
    assert shown["token_logprobs"][0] is None and shown["top_logprobs"][0] is None
    oracle = one_by_one(lm, [lm.tokenizer.end_of_text, *ids], 2)
    assert shown["token_logprobs"][1 : len(ids)] == pytest.approx(oracle, abs=1e-4)
    for name, logprob, top in list(zip(*list(shown.values())[:3], strict=True))[1:]:
        assert top[name] == logprob and 2 <= len(top) <= 3
    assert by_text["finish_reason"] in ("length", "stop")


def test_offsets_are_in_characters_and_a_token_within_one_begins_where_it_does(server: Server) -> None:
    shown = server.complete(TEXT, echo=True, logprobs=0, max_tokens=0).json["choices"][0]["logprobs"]
    text = TEXT.encode()
    place = 0
    for name, offset in zip(shown["tokens"], shown["text_offset"], strict=True):
        assert offset == len(text[:place].decode(errors="ignore"))
        spelt = bytes.fromhex(name[6:].replace("\\x", "")) if name.startswith("bytes:") else name.encode()
        assert text[place : place + len(spelt)] == spelt
        place += len(spelt)
    assert place == len(text)
    assert any(name.startswith("bytes:") for name in shown["tokens"])


def test_a_prompt_that_begins_with_the_prefix_is_not_given_another(server: Server, lm: LanguageModel) -> None:
    ids = lm.tokenizer.encode("The nurse")
    with_it = server.complete([lm.tokenizer.end_of_text, *ids], echo=True, logprobs=0, max_tokens=0).json["choices"][0]
    without = server.complete(ids, echo=True, logprobs=0, max_tokens=0).json["choices"][0]
    assert with_it["text"] == "<|endoftext|>The nurse" and without["text"] == "The nurse"
    assert with_it["logprobs"]["token_logprobs"][2:] == without["logprobs"]["token_logprobs"][1:]
    assert with_it["logprobs"]["token_logprobs"][1] is not None


def test_a_stream_joined_is_the_whole_answer(server: Server) -> None:
    fields = {"echo": True, "logprobs": 2, "max_tokens": 12, "seed": 5, "n": 2}
    whole = server.complete(["The pilot", "Q: 石"], **fields).json
    streamed = server.complete(["The pilot", "Q: 石"], stream=True, stream_options={"include_usage": True}, **fields)
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert streamed.body.endswith(b"data: [DONE]\n\n")
    *events, last = streamed.events
    assert last["choices"] == [] and last["usage"] == whole["usage"]
    assert len({event["id"] for event in events}) == 1 and all(event["usage"] is None for event in events)
    assert len(whole["choices"]) == 4 and len({choice["text"] for choice in whole["choices"]}) == 4
    for choice in whole["choices"]:
        pieces = [each for event in events for each in event["choices"] if each["index"] == choice["index"]]
        assert len(pieces) > 3
        assert "".join(piece["text"] for piece in pieces) == choice["text"]
        for column, values in choice["logprobs"].items():
            assert [value for piece in pieces for value in piece["logprobs"][column]] == values
        assert [piece["finish_reason"] for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
        assert pieces[-1]["finish_reason"] == choice["finish_reason"]


def test_no_event_of_a_stream_ends_within_a_character(server: Server) -> None:
    found = 0
    for seed in range(6):
        events = server.complete("石は重い 😀", stream=True, max_tokens=20, seed=seed, temperature=0.7).events
        whole = server.complete("石は重い 😀", max_tokens=20, seed=seed, temperature=0.7).json["choices"][0]["text"]
        texts = [event["choices"][0]["text"] for event in events]
        assert "".join(texts) == whole
        found += sum(ord(letter) > 127 for letter in whole)
    assert found


def test_a_seed_gives_the_same_text_alone_and_beside_others(server: Server) -> None:
    alone = server.complete("The nurse", seed=7, max_tokens=10).json["choices"][0]["text"]
    beside = server.complete(["A pilot", "The nurse"], seed=7, max_tokens=10, n=2).json["choices"]
    assert beside[2]["text"] == alone != beside[3]["text"]
    unseeded = {server.complete("The nurse", max_tokens=10).json["choices"][0]["text"] for _ in range(3)}
    assert len(unseeded) == 3


def test_tokens_beyond_a_stop_are_not_shown(server: Server) -> None:
    text = server.complete("The nurse", seed=7, max_tokens=12).json["choices"][0]["text"]
    stop = text[5:8]
    choice = server.complete("The nurse", seed=7, max_tokens=12, stop=[stop, "§§"], logprobs=0).json["choices"][0]
    assert choice["text"] == text[: text.index(stop)] and choice["finish_reason"] == "stop"
    assert choice["logprobs"]["text_offset"][-1] < len(choice["text"])
    streamed = server.complete("The nurse", seed=7, max_tokens=12, stop=stop, logprobs=0, stream=True).events
    assert "".join(event["choices"][0]["text"] for event in streamed) == choice["text"]
    offsets = [at for event in streamed for at in event["choices"][0]["logprobs"]["text_offset"]]
    assert offsets == choice["logprobs"]["text_offset"]


def test_usage_counts_what_was_sent_and_drawn(server: Server, lm: LanguageModel) -> None:
    usage = server.complete(["The nurse", ""], max_tokens=3, n=2, temperature=0).json["usage"]
    prompt = len(lm.tokenizer.encode("The nurse"))
    assert usage["prompt_tokens"] == prompt and usage["total_tokens"] == prompt + usage["completion_tokens"]
    assert 4 <= usage["completion_tokens"] <= 12


def test_the_context_may_be_filled_and_no_more(server: Server, lm: LanguageModel) -> None:
    limit = lm.config.sequence_length
    ids = (lm.tokenizer.encode(TEXT) * 9)[: limit - 1]  # the prefix stands before them
    assert server.complete(ids, max_tokens=1, echo=True).status == 200
    for prompt, tokens in ((ids, 2), ([*ids, 5], 1), ([*ids, 5], 0), ("The", limit + 1)):
        error = server.refused(400, server.complete(prompt, max_tokens=tokens))
        assert error["code"] == "context_length_exceeded"
    error = server.refused(400, server.complete("The nurse. " * 100_000))
    assert error["code"] == "context_length_exceeded"


def test_models_and_health(server: Server, lm: LanguageModel) -> None:
    (model,) = server.ask("GET", "/v1/models").json["data"]
    assert model["id"] == MODEL and model["max_model_len"] == lm.config.sequence_length
    assert server.ask("GET", f"/v1/models/{MODEL}").json == model
    assert server.refused(404, server.ask("GET", "/v1/models/other"))["code"] == "model_not_found"
    assert server.ask("GET", "/health").json == {"status": "ok"}
    assert server.ask("HEAD", "/health").body == b""


def test_names_of_one_model_differ_by_token(server: Server, lm: LanguageModel) -> None:
    """No two tokens of a byte-level BPE share a name, so that `top_logprobs` loses none."""
    from megalith.serving.spelling import Spelling

    names = [Spelling(lm.tokenizer).name(token) for token in range(lm.tokenizer.vocab_size)]
    assert all(one != other for one, other in pairwise(sorted(names)))


def test_a_model_without_a_prefix_reads_a_prompt_as_it_is(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model")
    (directory / "generation.json").write_text('{"prefix": null, "end_of_text": [0]}')
    lm = load_model(directory)
    ids = lm.tokenizer.encode(TEXT)
    with serving(lm) as server:
        for prompt in (TEXT, ids):
            shown = server.complete(prompt, echo=True, logprobs=0, max_tokens=0).json["choices"][0]["logprobs"]
            assert shown["token_logprobs"][0] is None
            assert shown["token_logprobs"][1:] == pytest.approx(one_by_one(lm, ids, 1), abs=1e-4)
        empty = server.complete("", echo=True, logprobs=0, max_tokens=2, seed=1).json
        assert empty["usage"]["prompt_tokens"] == 0 and len(empty["choices"][0]["logprobs"]["tokens"]) in (1, 2)


def test_a_first_token_in_sentencepieces_manner_lends_the_text_no_space() -> None:
    from megalith.serving.spelling import Spelling

    made = tokenizers.Tokenizer(WordLevel({"</s>": 0, "▁The": 1, "▁nurse": 2, "s": 3}, unk_token="</s>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    text, found = Spelling(Tokenizer(made, Conventions(prefix=None, end_of_text=(0,)))).text([1, 2, 3])
    assert text == "The nurses" and [one.offset for one in found] == [0, 3, 9]
