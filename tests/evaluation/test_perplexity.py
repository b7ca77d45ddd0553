"""One long text in blocks of windows: the nats are those of the whole, and its words and bytes add up."""

import dataclasses
import math

import pytest

from megalith.evaluation.document import Document
from megalith.evaluation.perplexity import Blocks, apportioned
from megalith.evaluation.rows import rows_of
from megalith.evaluation.scoring import Scoring
from megalith.inference import LanguageModel, rolling
from tests.inference.models import PROSE

TEXT = "".join(PROSE) * 2
DOCUMENT = Document(id="test", prompt=TEXT, fields={"words": "91"})


@pytest.mark.parametrize("stride", [8, 24, 32, None])
def test_blocks_sum_up_to_megatron_s_protocol_over_the_whole_text(lm: LanguageModel, stride: int | None) -> None:
    blocks = Blocks(Scoring(lm, 256), DOCUMENT, stride)
    results = blocks.judge(range(len(blocks.blocks)))
    (whole,) = rolling(lm, [TEXT], 256, stride or 24, protocol="megatron")
    assert sum(one["nats"] for one in results) == pytest.approx(whole.nats, rel=1e-5)
    assert sum(one["tokens"] for one in results) == whole.tokens == len(lm.tokenizer.encode(TEXT)) - 1
    assert sum(one["words"] for one in results) == 90  # Megatron-LM divides by one word less, as by one token less
    first = lm.token_bytes[lm.tokenizer.encode(TEXT)[0]]
    assert sum(one["bytes"] for one in results) == len(TEXT.encode()) - first
    word = rows_of("perplexity", "wikitext2", 0, results, ())[0]
    assert (word["metric"], word["score"]) == ("word_perplexity", pytest.approx(math.exp(whole.nats / 90), rel=1e-5))


def test_a_part_of_the_blocks_has_the_nats_that_it_has_in_the_whole(lm: LanguageModel) -> None:
    blocks = Blocks(Scoring(lm, 256), DOCUMENT, 8)
    whole = blocks.judge(range(len(blocks.blocks)))
    last = len(blocks.blocks) - 1
    part = blocks.judge([last, 0])
    assert [one["id"] for one in part] == [f"block-{last}", "block-0"]
    assert [one["nats"] for one in part] == pytest.approx([whole[last]["nats"], whole[0]["nats"]], abs=1e-4)


def test_without_known_bytes_of_tokens_the_text_s_bytes_are_shared_out(lm: LanguageModel) -> None:
    blocks = Blocks(Scoring(dataclasses.replace(lm, token_bytes=()), 256), DOCUMENT, 8)
    assert sum(one["bytes"] for one in blocks.judge(range(len(blocks.blocks)))) == len(TEXT.encode())
    assert apportioned(10, [1, 1, 1]) == [3, 4, 3]
