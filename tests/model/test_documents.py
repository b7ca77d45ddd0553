"""Samples of several documents against each document by itself."""

import pytest
import torch
from torch import Tensor

from megalith.model import GPT, initialise
from megalith.model.documents import ALONE, document_attention, document_mask, document_positions, pieces
from megalith.recipe import ModelConfig
from tests.parallel.oracle import document_by_document

LENGTHS = [ALONE + 30, 5, 40, 70, 200, 1, 127, 17]  # alone, together, together, beyond, alone, together …
TOKENS = sum(LENGTHS)


def starts_of(*lengths: int) -> Tensor:
    """The starts of documents of these lengths, (T)."""
    counts = torch.tensor(lengths)
    return (counts.cumsum(0) - counts).repeat_interleave(counts)


def heads(seed: int, batch: int = 2) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 2, TOKENS, 8, generator=random, dtype=torch.float64) for _ in range(3)]


def test_documents_attend_in_pieces_as_under_one_mask() -> None:
    starts = torch.stack([starts_of(*LENGTHS), starts_of(*LENGTHS[::-1])])
    q, k, v = (each.requires_grad_() for each in heads(1))
    found = document_attention(q, k, v, starts)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=document_mask(starts))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    outer = heads(2)[0]
    gradients = [torch.autograd.grad((each * outer).sum(), (q, k, v)) for each in (found, expected)]
    for own, other in zip(*gradients, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-11, atol=1e-13)


def test_long_documents_are_alone_and_short_ones_together() -> None:
    assert pieces(starts_of(*LENGTHS)) == [ALONE + 30, 115, 200, 128, 17]
    assert pieces(starts_of(3, 4)) == [7]


def test_a_mask_is_of_documents_of_the_past_and_of_the_window() -> None:
    mask = document_mask(starts_of(2, 4)[None], window=3)[0, 0]
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 1, 1, 1],
    ]
    assert document_positions(starts_of(2, 4)[None]).tolist() == [[0, 1, 0, 1, 2, 3]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"positions": "rotary", "num_kv_heads": 1},
        {"positions": "relative"},
        {"positions": "rotary", "sliding_window": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("dropout", [0.0, 0.1])  # which takes the mask, and drops nothing in evaluation
def test_the_losses_of_packed_samples_are_those_of_each_document_by_itself(
    options: dict[str, object], dropout: float
) -> None:
    shape = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "vocab_size": 31, "vocab_multiple": 1}
    config = ModelConfig.model_validate(shape | {"sequence_length": 24, "init_std": 0.5, "dropout": dropout} | options)
    model = GPT(config).double().eval()
    model.activation_dtype = torch.float64
    initialise(model, config, seed=2)
    random = torch.Generator().manual_seed(3)
    batch = {
        "tokens": torch.randint(31, (2, 24), generator=random),
        "targets": torch.randint(31, (2, 24), generator=random),
        "document_starts": torch.stack([starts_of(7, 1, 10, 6), starts_of(20, 4)]),
    }
    apart = document_by_document(model, batch)
    expected = torch.nn.functional.cross_entropy(apart.flatten(0, 1), batch["targets"].flatten(), reduction="sum")
    packed = model(batch["tokens"], batch["targets"], batch["document_starts"])
    torch.testing.assert_close(packed[0], expected, rtol=1e-12, atol=0)
    whole = model(batch["tokens"], batch["targets"])
    assert abs(float((whole[0] / expected).detach()) - 1) > 1e-3  # documents that see each other lose otherwise
