"""The clients that people use: OpenAI's own, and lm-evaluation-harness; each against `inference` in this process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from megalith.inference import LanguageModel, Request, generate, rolling, score
from tests.serving.servers import MODEL, Server, serving

PAIRS = [
    ("The baker said that the nurse was", " a woman"),
    ("The baker said that the nurse was", " a pilot, and the man laughed"),
    ("Question: was it False? Answer:", " True"),
    ("Naïve visitors ask:", " “How?” 石は重い。"),
    ("Q: What is 12 plus 30?\nA:", " 42"),
]


@pytest.fixture(scope="module")
def server(lm: LanguageModel) -> Iterator[Server]:
    with serving(lm, api_key="a-key") as made:
        yield made


@pytest.fixture
def client(server: Server) -> Any:
    openai = pytest.importorskip("openai", reason="the official client is not installed")
    return openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="a-key", max_retries=0)


def test_the_official_client_reads_the_log_probabilities_of_score(client: Any, lm: LanguageModel) -> None:
    expected = [one.log_probability for (one,) in score(lm, [Request(c, (t,)) for c, t in PAIRS], 64)]
    made = client.completions.create(
        model=MODEL, prompt=[c + t for c, t in PAIRS], echo=True, logprobs=5, max_tokens=0, temperature=0
    )
    for (context, text), choice, wanted in zip(PAIRS, made.choices, expected, strict=True):
        shown = choice.logprobs
        assert choice.text == context + text
        first = next(at for at, offset in enumerate(shown.text_offset) if offset >= len(context))
        assert sum(shown.token_logprobs[first:]) == pytest.approx(wanted, abs=1e-4)


def test_the_official_client_streams_and_lists_models(client: Any, lm: LanguageModel) -> None:
    assert [one.id for one in client.models.list()] == [MODEL] and client.models.retrieve(MODEL).id == MODEL
    (text,) = generate(lm, ["The nurse"], tokens=8, temperature=0)
    stream = client.completions.create(
        model=MODEL, prompt="The nurse", max_tokens=8, temperature=0, stream=True,
        stream_options={"include_usage": True}, extra_body={"top_k": 5},
    )  # fmt: skip
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == text
    assert last.usage.completion_tokens >= 1 and chunks[-1].choices[0].finish_reason in ("stop", "length")


def test_the_official_client_knows_the_errors(client: Any, server: Server) -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model=MODEL, prompt="The", temperature=5)
    assert refused.value.param == "temperature" and refused.value.code == "invalid_value"
    with pytest.raises(openai.NotFoundError, match="not served here"):
        client.completions.create(model="gpt-5", prompt="The")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    server.engine.pause = 0.05
    stream = client.completions.create(model=MODEL, prompt="The", max_tokens=25, temperature=1.9, stream=True)
    next(iter(stream))
    server.engine.failing = RuntimeError("broken")
    with pytest.raises(openai.APIError, match="The engine has failed"):
        list(stream)
    server.engine.pause = 0


@pytest.fixture
def harness(server: Server, model_directory: Path) -> Any:
    for needed in ("transformers", "aiohttp", "tenacity", "requests"):
        pytest.importorskip(needed, reason=f"lm-evaluation-harness needs {needed}, which is not installed")
    models = pytest.importorskip("lm_eval.models.openai_completions", reason="lm-evaluation-harness is not installed")

    class Harness(models.LocalCompletionsAPI):  # type: ignore[misc]  # an untyped library
        api_key = "a-key"

    return Harness(
        model=MODEL,
        base_url=f"http://127.0.0.1:{server.port}/v1/completions",
        tokenizer_backend="huggingface",
        tokenizer=str(model_directory),
        custom_prefix_token_id=0,
        eos_string="<|endoftext|>",
        max_length=32,
        batch_size=3,
        max_retries=1,
    )


def instances(kind: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(request_type=kind, doc={}, arguments=each, idx=at) for at, each in enumerate(arguments)]


def test_the_harness_scores_as_this_process_does(harness: Any, lm: LanguageModel) -> None:
    expected = [one for (one,) in score(lm, [Request(c, (t,)) for c, t in PAIRS], 64)]
    found = harness.loglikelihood(instances("loglikelihood", PAIRS), disable_tqdm=True)
    assert [value for value, _ in found] == pytest.approx([one.log_probability for one in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [one.greedy for one in expected]
    contexts = [context for context, _ in PAIRS]
    firsts = zip(contexts, generate(lm, contexts, tokens=1, temperature=0), strict=True)
    pairs = [(c, t) for c, t in firsts if t and lm.tokenizer.encode(c + t)[:-1] == lm.tokenizer.encode(c)]
    found = harness.loglikelihood(instances("loglikelihood", pairs), disable_tqdm=True)
    assert pairs and all(greedy for _, greedy in found)


def test_the_harness_rolls_over_a_text_as_this_process_does(harness: Any, lm: LanguageModel) -> None:
    texts = ["The baker said that the pilot was a man.", "Naïve? 石は重い。"]
    found = harness.loglikelihood_rolling(instances("loglikelihood_rolling", [(text,) for text in texts]), True)
    assert found == pytest.approx([-one.nats for one in rolling(lm, texts, 64)], abs=1e-4)


def test_the_harness_generates_as_this_process_does(harness: Any, lm: LanguageModel) -> None:
    prompts = ["The nurse", "Q: What is 12 plus 30?\nA:"]
    asked = [(prompt, {"until": ["\n\n"], "max_gen_toks": 10, "temperature": 0}) for prompt in prompts]
    found = harness.generate_until(instances("generate_until", asked), disable_tqdm=True)
    assert found == generate(lm, prompts, tokens=10, temperature=0, stop="\n\n")
