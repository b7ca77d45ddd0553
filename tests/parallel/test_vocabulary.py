"""The vocabulary split over four ranks, in even, uneven and empty parts, against torch on the whole of it."""

import pytest
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.nn import functional as F

from megalith.arithmetic import LOSS_ROWS as ROWS
from megalith.model.loss import IGNORE
from megalith.parallel import Mesh, build_mesh
from megalith.parallel.vocabulary import first_row, vocabulary_parallel_cross_entropy, vocabulary_parallel_embedding
from megalith.recipe.machine import ParallelConfig
from tests.parallel.processes import on_ranks

RANKS, HIDDEN, LENGTH, SEQUENCES = 4, 6, 8, 3
Z_LOSS = 0.3  # with a bias
PADDED_AND_REAL = [(16, 16), (15, 15), (10, 7), (9, 5), (5, 5), (5, 2), (16, 3)]
"""With 9 rows the last rank has none; with 16 rows, 3 of them tokens, three ranks have only padding."""


def inputs(padded: int, real: int, sequences: int = SEQUENCES) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features (B, T, E), weight (V, E), bias (V), targets (B, T)."""
    random = torch.Generator().manual_seed(padded * 100 + real)
    features = torch.randn(sequences, LENGTH, HIDDEN, generator=random, dtype=torch.float64)
    weight = 3 * torch.randn(padded, HIDDEN, generator=random, dtype=torch.float64)
    bias = torch.randn(padded, generator=random, dtype=torch.float64)
    weight[real:], bias[real:] = 50.0, 1000.0  # a padded row would win every maximum
    targets = torch.randint(real, (sequences, LENGTH), generator=random)
    targets[0, ::3] = IGNORE
    return features, weight, bias, targets


def rank_main(rank: int) -> dict[str, Tensor]:
    """The loss, and the gradients made whole, of each vocabulary."""
    mesh = build_mesh(Mesh(rank, RANKS), ParallelConfig(tensor=RANKS, pipeline=1, data=1)).submesh("tensor")
    found = {}
    cases = [(padded, real, biased, False) for padded, real in PADDED_AND_REAL for biased in (False, True)]
    for padded, real, biased, split in [*cases, (10, 7, False, True)]:
        features, whole_weight, whole_bias, targets = inputs(padded, real)
        weight = torch.nn.Parameter(distribute_tensor(whole_weight, mesh, [Shard(0)]))
        bias = torch.nn.Parameter(distribute_tensor(whole_bias, mesh, [Shard(0)])) if biased else None
        x = distribute_tensor(features, mesh, [Shard(1)]) if split else features
        x.requires_grad_()
        loss, _ = vocabulary_parallel_cross_entropy(x, weight, targets, real, bias, Z_LOSS * biased)
        (loss * 0.25).backward()
        assert weight.grad is not None
        assert x.grad is not None
        gradient = x.grad.full_tensor() if isinstance(x.grad, DTensor) else x.grad
        key = f"{padded} {real} {biased} {split}"
        found |= {f"{key} loss": loss.detach(), f"{key} features": gradient, f"{key} weight": full(weight.grad)}
        if bias is not None:
            assert bias.grad is not None
            found[f"{key} bias"] = full(bias.grad)
        place, rows = first_row(weight.data), weight.to_local()
        assert torch.equal(rows, whole_weight[place : place + len(rows)])
        found |= embedded(key, weight, targets, mesh)
    long = inputs(10, 7, sequences=ROWS // LENGTH + 5)
    weight = distribute_tensor(long[1], mesh, [Shard(0)])
    return found | {"long": vocabulary_parallel_cross_entropy(long[0], weight, long[3], 7)[0]}


def embedded(key: str, weight: torch.nn.Parameter, targets: Tensor, mesh: object) -> dict[str, Tensor]:
    """Rows looked up, and the gradient of the table, where each row's own gradient is its place."""
    weight.grad = None
    rows = vocabulary_parallel_embedding(targets.clamp_min(0), weight, Replicate(), torch.float64)
    (rows * torch.arange(rows.numel(), dtype=torch.float64).view_as(rows)).sum().backward()
    assert weight.grad is not None
    return {f"{key} rows": rows.detach(), f"{key} table": full(weight.grad)}


def full(tensor: Tensor) -> Tensor:
    assert isinstance(tensor, DTensor)
    return tensor.full_tensor()


@pytest.fixture(scope="module")
def found() -> list[dict[str, Tensor]]:
    return on_ranks(RANKS, rank_main)


@pytest.mark.parametrize(("padded", "real"), PADDED_AND_REAL)
@pytest.mark.parametrize("biased", [False, True])
def test_the_split_loss_and_its_gradients_are_those_of_torch_on_whole_logits(
    found: list[dict[str, Tensor]], padded: int, real: int, biased: bool
) -> None:
    _holds(found, padded, real, biased, split=False)


def test_features_that_are_split_along_the_sequence_give_the_same(found: list[dict[str, Tensor]]) -> None:
    _holds(found, 10, 7, biased=False, split=True)


def _holds(found: list[dict[str, Tensor]], padded: int, real: int, biased: bool, split: bool) -> None:
    features, weight, bias, targets = inputs(padded, real)
    leaves = [each.requires_grad_() for each in (features, weight, bias)]
    logits = F.linear(features, weight[:real], bias[:real] if biased else None)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
    if biased:
        loss = loss + Z_LOSS * logits.logsumexp(-1)[targets != IGNORE].square().sum()
    (loss * 0.25).backward()
    for rank in found:
        key = f"{padded} {real} {biased} {split}"
        torch.testing.assert_close(rank[f"{key} loss"], loss.detach(), rtol=1e-12, atol=0)
        for name, leaf in zip(("features", "weight", "bias")[: 2 + biased], leaves, strict=False):
            assert leaf.grad is not None
            torch.testing.assert_close(rank[f"{key} {name}"], leaf.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("padded", "real"), PADDED_AND_REAL)
def test_rows_looked_up_are_those_of_the_whole_table(found: list[dict[str, Tensor]], padded: int, real: int) -> None:
    _, weight, _, targets = inputs(padded, real)
    rows = F.embedding(targets.clamp_min(0), weight.requires_grad_())
    (rows * torch.arange(rows.numel(), dtype=torch.float64).view_as(rows)).sum().backward()
    for rank in found:
        assert torch.equal(rank[f"{padded} {real} False False rows"], rows.detach())
        torch.testing.assert_close(rank[f"{padded} {real} False False table"], weight.grad, rtol=1e-12, atol=1e-14)


def test_more_tokens_than_are_taken_at_a_time_add_up(found: list[dict[str, Tensor]]) -> None:
    features, weight, _, targets = inputs(10, 7, sequences=ROWS // LENGTH + 5)
    loss = F.cross_entropy(
        F.linear(features, weight[:7]).flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum"
    )
    for rank in found:
        torch.testing.assert_close(rank["long"], loss, rtol=1e-12, atol=0)
