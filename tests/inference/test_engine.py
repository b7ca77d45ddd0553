"""Continuous batches: each sequence is what it would be alone, and caches take the bytes they are said to take."""

import dataclasses
import itertools
import random

import pytest
import torch

from megalith.arithmetic import kv_cache_bytes
from megalith.errors import InputError
from megalith.inference import Engine, LanguageModel, Sampling, Sequence, TokenEvent, generate
from megalith.kernels import using
from megalith.kernels.choice import ALTERNATIVES
from megalith.model import GPT, initialise
from megalith.recipe import ModelConfig
from tests.inference.models import VOCAB_SIZE, one_by_one, plant

SHAPES = {
    "gpt2": {},
    "llama": {
        "positions": "rotary", "norm": "rmsnorm", "activation": "swiglu", "bias": False, "num_heads": 4,
        "num_kv_heads": 2,
    },
    "window": {"positions": "rotary", "sliding_window": 7, "num_heads": 4, "num_kv_heads": 1, "query_key_norm": "head"},
    "neox": {"positions": "rotary", "rotary_fraction": 0.5, "parallel_residual": True, "head_size": 12},
    "gopher": {"positions": "relative", "norm": "rmsnorm", "num_heads": 4, "num_kv_heads": 2},
}  # fmt: skip
PROMPTS = [[7], [5, 9, 200], list(range(10, 40)), [3] * 17, list(range(60, 83)), [1, 2]]


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest, lm: LanguageModel) -> LanguageModel:
    return random_model(lm, **SHAPES[request.param])


def random_model(lm: LanguageModel, **shape: object) -> LanguageModel:
    config = ModelConfig.model_validate(
        {
            "vocab_size": VOCAB_SIZE, "num_layers": 2, "hidden_size": 32, "num_heads": 2, "sequence_length": 64,
            "init_std": 0.4,
        }
        | shape
    )  # fmt: skip
    made = GPT(config)
    initialise(made, config, seed=3)
    return dataclasses.replace(lm, model=made.eval(), config=config)


def run(engine: Engine) -> list[TokenEvent]:
    events = []
    while engine.waiting or engine.running:
        events += engine.step()
    return events


def engine_for(lm: LanguageModel, tokens: int = 10_000, **settings: int) -> Engine:
    return Engine(lm, kv_bytes=kv_cache_bytes(lm.config, tokens), **settings)


def sampling_of(place: int) -> Sampling:
    """Greedy and drawn, long and short."""
    drawn = {"temperature": 0.9, "top_k": 60, "top_p": 0.95, "repetition_penalty": 1.1, "seed": place}
    return Sampling(max_tokens=5 + 3 * place, **({"temperature": 0} if place % 2 else drawn))


def read_again(lm: LanguageModel, prompt: list[int], count: int) -> list[int]:
    """The greedy tokens, each from a forward pass of the model over all that precedes it."""
    ids = list(prompt)
    while len(ids) < len(prompt) + count and (len(ids) == len(prompt) or ids[-1] != 0):
        with torch.no_grad():
            ids.append(int(lm.model(torch.tensor([ids]))[0, -1, : lm.tokenizer.vocab_size].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("kernels", ["torch", "megalith"])
@pytest.mark.parametrize("max_batch", [1, 4])
def test_greedy_tokens_are_those_of_reading_everything_again(
    model: LanguageModel, kernels: str, max_batch: int
) -> None:
    with using(ALTERNATIVES if kernels == "megalith" else {}):
        engine = engine_for(model, max_batch=max_batch)
    sequences = [engine.submit(prompt, Sampling(max_tokens=12, temperature=0)) for prompt in PROMPTS]
    run(engine)
    assert [one.tokens for one in sequences] == [read_again(model, prompt, 12) for prompt in PROMPTS]


@pytest.mark.parametrize(("prefill_tokens", "max_batch", "tokens"), [(512, 64, 10_000), (4, 3, 10_000), (1, 64, 90)])
def test_a_sequence_is_the_same_alone_and_in_any_batch(
    model: LanguageModel, prefill_tokens: int, max_batch: int, tokens: int
) -> None:
    alone = []
    for place, prompt in enumerate(PROMPTS):
        engine = engine_for(model)
        alone.append(engine.submit(prompt, sampling_of(place)))
        run(engine)
    engine = engine_for(model, tokens, prefill_tokens=prefill_tokens, max_batch=max_batch)
    order = random.Random(prefill_tokens).sample(range(len(PROMPTS)), len(PROMPTS))
    together: dict[int, Sequence] = {}
    for place in order:  # they come while others run
        together[place] = engine.submit(PROMPTS[place], sampling_of(place))
        engine.step()
    events = run(engine)
    assert [together[place].tokens for place in range(len(PROMPTS))] == [one.tokens for one in alone]
    assert events
    assert engine.kv_bytes_used == 0


def test_events_are_the_tokens_of_their_sequences(model: LanguageModel) -> None:
    engine = engine_for(model)
    sequences = [engine.submit(prompt, sampling_of(place)) for place, prompt in enumerate(PROMPTS)]
    events = run(engine)
    for one in sequences:
        own = [event for event in events if event.sequence is one]
        assert [event.token for event in own] == one.tokens
        assert [event.finish for event in own] == [None] * (len(own) - 1) + [one.finish]
        kept = [token for token in one.tokens if token != 0]
        assert "".join(event.text for event in own) == model.tokenizer.decode(kept)
        assert all(event.logprob is None and event.top == () for event in own)


@pytest.mark.parametrize("shape", SHAPES)
def test_log_probabilities_are_the_models_own(lm: LanguageModel, shape: str) -> None:
    """Those of a prompt read in chunks, and of what follows, before any filter."""
    model = random_model(lm, **SHAPES[shape], init_std=0.2)  # larger logits have larger last bits
    engine = engine_for(model, prefill_tokens=5)
    asked = Sampling(max_tokens=8, temperature=0.7, top_k=5, repetition_penalty=1.2, seed=1, logprobs=3)
    sequences = [engine.submit(prompt, asked, prompt_logprobs=True) for prompt in PROMPTS]
    events = run(engine)
    for prompt, one in zip(PROMPTS, sequences, strict=True):
        own = [event for event in events if event.sequence is one]
        expected = one_by_one(model, [*prompt, *one.tokens], 1)
        assert one.prompt_logprobs is not None
        found = [logprob for logprob, _ in one.prompt_logprobs] + [event.logprob for event in own]
        assert found == pytest.approx(expected, abs=1e-5)
        with torch.no_grad():
            logits = model.model(torch.tensor([[*prompt, *one.tokens]]))[0, :-1, : model.config.vocab_size]
        tops = [top for _, top in one.prompt_logprobs] + [event.top for event in own]
        for top, row in zip(tops, logits.log_softmax(-1)[:, : model.tokenizer.vocab_size], strict=True):
            assert [token for token, _ in top] == row.topk(3).indices.tolist()
            assert [value for _, value in top] == pytest.approx(row.topk(3).values.tolist(), abs=1e-5)


def test_a_text_ends_where_the_context_does(model: LanguageModel) -> None:
    engine = engine_for(model)
    context = model.config.sequence_length
    sequence = engine.submit([5] * (context - 2), Sampling(max_tokens=50, temperature=0))
    whole = engine.submit([5] * context, Sampling(max_tokens=50, temperature=0))
    run(engine)
    assert (len(sequence.tokens), sequence.finish) == (3, "length")  # the last is never read
    assert (len(whole.tokens), whole.finish) == (1, "length")
    with pytest.raises(InputError, match="65 tokens, and the model's context is 64"):
        engine.submit([5] * (context + 1), Sampling())


def test_caches_take_what_arithmetic_says_and_the_queue_waits_for_room(lm: LanguageModel) -> None:
    model = random_model(lm, **SHAPES["llama"])
    engine = engine_for(model, tokens=50)
    first = engine.submit([5] * 20, Sampling(max_tokens=11, temperature=0))
    second = engine.submit([6] * 20, Sampling(max_tokens=2, temperature=0))
    third = engine.submit([7], Sampling(max_tokens=2, temperature=0))
    engine.step()
    assert (engine.running, engine.waiting) == (1, 2)  # 30 tokens, and 21 more are one too many; nobody passes it
    assert engine.kv_bytes_used == kv_cache_bytes(model.config, 30)
    assert first._cache is not None
    assert first._cache.whole.nbytes == kv_cache_bytes(model.config, 30)
    engine.cancel(first)
    assert (engine.kv_bytes_used, engine.running, first._cache) == (0, 0, None)
    engine.step()
    assert engine.kv_bytes_used == kv_cache_bytes(model.config, 21) + kv_cache_bytes(model.config, 2)
    engine.cancel(third)
    run(engine)
    assert (len(first.tokens), first.finish) == (1, None)
    assert (second.finish, third.finish) == ("length", None)
    engine.cancel(second)
    assert engine.kv_bytes_used == 0


def test_a_sliding_window_bounds_the_cache(lm: LanguageModel) -> None:
    model = random_model(lm, **SHAPES["window"])
    engine = engine_for(model, tokens=7)
    sequence = engine.submit([5] * 30, Sampling(max_tokens=30, temperature=0))
    engine.step()
    assert sequence._cache is not None
    assert sequence._cache.whole.nbytes == engine.kv_bytes_used
    assert engine.kv_bytes_used == kv_cache_bytes(model.config, 7) == kv_cache_bytes(model.config, 59)
    run(engine)
    assert sequence.tokens == read_again(model, [5] * 30, 30)


def test_what_can_never_fit_is_refused(lm: LanguageModel) -> None:
    engine = engine_for(random_model(lm, **SHAPES["llama"]), tokens=20)
    for prompt, sampling, message in (
        ([5] * 15, Sampling(max_tokens=7), "the limit is"),
        ([], Sampling(), "no tokens"),
        ([5, VOCAB_SIZE], Sampling(), f"0 … {VOCAB_SIZE - 1}"),
        ([-1], Sampling(), f"0 … {VOCAB_SIZE - 1}"),
    ):
        with pytest.raises(InputError, match=message):
            engine.submit(prompt, sampling)
    assert engine.waiting == 0
    engine.submit([5] * 15, Sampling(max_tokens=6))


def test_a_stop_ends_a_text_across_tokens(lm: LanguageModel) -> None:
    chain = [lm.tokenizer.encode("A:")[-1], *lm.tokenizer.encode(" 42\nyes")]
    table = torch.zeros(VOCAB_SIZE, VOCAB_SIZE)
    for before, after in itertools.pairwise(chain):
        table[before, after] = 9.0
    planted = plant(lm, table)
    asked = {"tokens": 8, "temperature": 0}
    assert generate(planted, ["A:"], stop=["nothing", "2\ny"], **asked) == [" 4"]
    engine = engine_for(planted)
    sequence = engine.submit([chain[0]], Sampling(max_tokens=20, temperature=0, stop=("2\ny",)))
    events = run(engine)
    assert sequence.finish == "stop"
    assert "".join(event.text for event in events) == " 4"


def test_each_sequence_without_a_seed_has_its_own(model: LanguageModel) -> None:
    engine = engine_for(model)
    first, second = (engine.submit([5], Sampling(max_tokens=20, temperature=5.0)) for _ in range(2))
    run(engine)
    assert first.tokens != second.tokens
    again = engine.submit([5], Sampling(max_tokens=20, temperature=5.0, seed=first.seed))
    run(engine)
    assert again.tokens == first.tokens


def test_the_model_is_left_as_it_was(model: LanguageModel) -> None:
    before = {name: weight.clone() for name, weight in model.model.state_dict().items()}
    modules = [type(module) for module in model.model.modules()]
    with torch.no_grad():
        logits = model.model(torch.tensor([PROMPTS[2]]))
    engine = engine_for(model)
    engine.submit(PROMPTS[2], Sampling(max_tokens=3))
    run(engine)
    assert [type(module) for module in model.model.modules()] == modules
    assert all(torch.equal(before[name], weight) for name, weight in model.model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(model.model(torch.tensor([PROMPTS[2]])), logits)
