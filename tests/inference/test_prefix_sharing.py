"""Requests that begin alike are read once, and each score is that of its tokens read by themselves."""

import random

import numpy as np
import pytest
import torch

from megalith.inference import LanguageModel, LocalScorer, Request, score
from megalith.inference.prefix_tree import Pass, PassPlan
from megalith.inference.scorer import log_probabilities
from megalith.inference.spans import Window, spans_of, windows_of
from tests.inference.models import VOCAB_SIZE
from tests.inference.test_engine import SHAPES, random_model

FP32 = 5e-5  # ten tokens under weights so large that logits of size ~20 differ by 1e-6 with the shape of a product
SHOTS = "Q: What is 12 plus 30?\nA: 42\n\nThe baker laughed. "
QUESTIONS = ("Is it True", "Is it False that the nurse said", "Was it", "Was it False")
REQUESTS = [
    *(Request(f"{SHOTS}{question}", (" True", " False", " secret")) for question in QUESTIONS),
    Request("The pilot said that the", (" nurse was a man", " nurse was a woman", " man")),
    Request("", ("True", "The sailor followed the farmer")),
    Request(f"{SHOTS}{QUESTIONS[0]}", (" True",)),
]


@pytest.fixture(scope="module", params=SHAPES)
def model(request: pytest.FixtureRequest, lm: LanguageModel) -> LanguageModel:
    return random_model(lm, **SHAPES[request.param])


@pytest.mark.parametrize("batch_tokens", [1, 45, 10_000])
def test_scores_are_those_of_tokens_read_by_themselves(model: LanguageModel, batch_tokens: int) -> None:
    for request, scores in zip(REQUESTS, score(model, REQUESTS, batch_tokens), strict=True):
        for span, found in zip(spans_of(model, [request], "auto", "safe"), scores, strict=True):
            wanted = sum(_at_once(model, span.ids.tolist(), span.first))
            assert found.log_probability == pytest.approx(wanted, abs=FP32)


def test_a_common_prefix_is_read_once(lm: LanguageModel) -> None:
    lm = random_model(lm)
    spans = [span.ids for span in spans_of(lm, REQUESTS[:4], "auto", "safe")]
    plan = PassPlan(spans, [[Window(owner, 0, len(ids) - 1, len(ids)) for owner, ids in enumerate(spans)]], 20)
    prefixes = {tuple(ids[: end + 1]) for ids in spans for end in range(len(ids) - 1)}
    assert plan.tokens == len(prefixes) < sum(map(len, spans)) / 4
    read = [step.read for step in plan.passes()]
    assert len(read) > 1 and read[-1] == plan.tokens


@pytest.mark.parametrize("seed", range(12))
def test_any_tree_of_windows_is_read_right(lm: LanguageModel, seed: int) -> None:
    """Random texts that share prefixes of any length; short ones, long ones and equal ones."""
    draw = random.Random(seed)
    lm = random_model(lm, **SHAPES[draw.choice(list(SHAPES))])
    limit = lm.config.sequence_length
    texts = [[draw.randrange(VOCAB_SIZE) for _ in range(draw.randrange(2, 2 * limit))]]
    for _ in range(11):
        known = draw.choice(texts)
        tail = [draw.randrange(VOCAB_SIZE) for _ in range(draw.choice([0, 1, 3, 30]))]
        texts.append([*known[: draw.randrange(1, len(known))], *tail, 7][-2 * limit :])
    spans = [np.array(text, np.int32) for text in texts]
    firsts = [draw.randrange(1, len(text)) for text in texts]
    windows = [
        window
        for owner, (text, first) in enumerate(zip(texts, firsts, strict=True))
        for window in windows_of(owner, len(text), first, limit, limit // 2)
    ]
    found = np.zeros(len(texts))
    scorer = LocalScorer(lm)
    for step in PassPlan(spans, [windows], draw.choice([1, 30, 100, 10_000]), lm.config.sliding_window).passes():
        np.add.at(found, step.owners, scorer.score(step)[0].numpy())
    wanted = np.zeros(len(texts))
    for window in windows:
        ids = texts[window.owner][window.begin : window.end]
        wanted[window.owner] += sum(_at_once(lm, ids, window.first - window.begin))
    np.testing.assert_allclose(found, wanted, atol=3 * FP32, rtol=1e-6)


def test_scores_are_the_same_bits_at_every_batch_size_and_order(model: LanguageModel) -> None:
    wanted = score(model, REQUESTS, 10_000, batch_invariant=True)
    order = [3, 0, 6, 2, 5, 1, 4]
    shuffled = score(model, [REQUESTS[place] for place in order], 1, batch_invariant=True)
    assert [wanted[place] for place in order] == shuffled
    assert score(model, REQUESTS[2:3], 7, batch_invariant=True) == wanted[2:3]


def test_log_probabilities_keep_their_digits() -> None:
    """50 tokens, as many logits as a real vocabulary has: lm-eval's fp32 log-softmax is 5e-4 off on such a sum."""
    draw = torch.Generator().manual_seed(0)
    features, weight = torch.randn(50, 8, generator=draw), 2 * torch.randn(50_000, 8, generator=draw)
    targets = torch.randint(50_000, (50,), generator=draw)
    rows = np.arange(50)
    step = Pass(rows, rows, [], rows[:0], rows, rows, targets.numpy(), rows, 50)
    found, first = log_probabilities(features, weight, step)
    logits = torch.mm(features, weight.T)
    wanted = logits.double().log_softmax(-1)[rows, targets]
    assert abs(float(found.sum() - wanted.sum())) < 1e-5
    assert first.tolist() == (logits.argmax(-1) == targets).tolist()


def _at_once(lm: LanguageModel, ids: list[int], first: int) -> list[float]:
    with torch.no_grad():
        logits = lm.model(torch.tensor([ids[:-1]]))[0, :, : lm.config.vocab_size].double()
    return [float(logits.log_softmax(-1)[place - 1, ids[place]]) for place in range(first, len(ids))]
