"""The loss of features against torch's cross entropy over whole logits, over more tokens than are taken at a time."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from megalith.arithmetic import LOSS_ROWS as ROWS
from megalith.model.embedding import look_up
from megalith.model.loss import linear_cross_entropy, scaled

TOKENS, HIDDEN, VOCAB, PADDED = 2 * ROWS + 5, 6, 13, 16


def some_inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, weight, bias and targets, a third of which do not count."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(TOKENS, HIDDEN), (PADDED, HIDDEN), (PADDED,)]
    features, weight, bias = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    targets = torch.randint(VOCAB, (TOKENS,), generator=generator)
    targets[::3] = -100
    return (*(each.requires_grad_() for each in (features, weight, bias)), targets)


@pytest.mark.parametrize("with_bias", [False, True])
def test_loss_and_gradients_are_those_of_torch_over_whole_logits(with_bias: bool) -> None:
    features, weight, bias, targets = some_inputs()
    inputs = [features, weight, bias] if with_bias else [features, weight]
    loss, z = linear_cross_entropy(features, weight, targets, VOCAB, *inputs[2:])
    found = torch.autograd.grad(loss / 7, inputs)
    logits = F.linear(features, weight[:VOCAB], bias[:VOCAB] if with_bias else None)
    expected = F.cross_entropy(logits, targets, reduction="sum")
    assert z == 0
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    for own, other in zip(found, torch.autograd.grad(expected / 7, inputs), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-11, atol=1e-13)


def test_a_z_loss_is_the_square_of_log_z_of_what_counts() -> None:
    features, weight, bias, targets = some_inputs()
    total, z = linear_cross_entropy(features, weight, targets, VOCAB, bias, z_loss=0.3)
    assert not z.requires_grad
    found = torch.autograd.grad(total / 7, [features, weight, bias])
    logits = F.linear(features, weight[:VOCAB], bias[:VOCAB])
    squares = 0.3 * logits.logsumexp(-1)[targets != -100].square().sum()
    expected = F.cross_entropy(logits, targets, reduction="sum") + squares
    torch.testing.assert_close([total, z], [expected, squares], rtol=1e-13, atol=0)
    for own, other in zip(found, torch.autograd.grad(expected / 7, [features, weight, bias]), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-11, atol=1e-13)


class Tables(TorchDispatchMode):
    """Counts the new tensors that are as large as the table, by their type."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers, self.made = numbers, Counter[torch.dtype]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {each.data_ptr() for each in tree_leaves(args) if isinstance(each, Tensor)}
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.numel() >= self.numbers and out.data_ptr() not in known:
            self.made[out.dtype] += 1
        return out


@pytest.mark.parametrize("vocab", [PADDED, PADDED - 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_makes_no_table_in_fp32_but_the_gradient(vocab: int, dtype: torch.dtype) -> None:
    """Neither the outer gradient nor rows of padding cost a copy of it."""
    weight = torch.nn.Parameter(torch.randn(PADDED, 64))
    features = torch.randn(8, 64, dtype=dtype, requires_grad=True)
    with Tables((PADDED - 3) * 64) as seen:
        (linear_cross_entropy(features, weight, torch.arange(8), vocab)[0] * 0.5).backward()
    assert seen.made[torch.float32] == 1


def test_a_second_backward_pass_over_a_loss_gives_the_same() -> None:
    features, weight, _, targets = some_inputs()
    loss, _ = linear_cross_entropy(features, weight, targets, VOCAB)
    first = [each.clone() for each in torch.autograd.grad(loss / 7, [features, weight], retain_graph=True)]
    for scale in (7, 3):
        again = torch.autograd.grad(loss / scale, [features, weight], retain_graph=True)
        for own, other in zip(again, first, strict=True):
            torch.testing.assert_close(own * scale / 7, other, rtol=1e-14, atol=0)


def test_the_gradient_of_a_bf16_table_is_summed_in_fp32() -> None:
    """4096 · 1 + 4 · 1 is 4096 again in bf16, if one is added at a time."""
    table = torch.zeros(2, 3, dtype=torch.bfloat16, requires_grad=True)
    look_up(torch.zeros(4224, dtype=torch.long), table).sum().backward()
    assert table.grad is not None
    assert table.grad.tolist() == [[4224.0] * 3, [0.0] * 3]


def test_a_bf16_bias_s_gradient_is_summed_in_fp32() -> None:
    blocks, entries = 300, 16
    weight, bias = torch.zeros(entries, 2, dtype=torch.bfloat16), torch.zeros(entries, dtype=torch.bfloat16)
    features, targets = torch.zeros(blocks * ROWS, 2, dtype=torch.bfloat16), torch.zeros(blocks * ROWS).long()
    linear_cross_entropy(features, weight, targets, entries, bias.requires_grad_())[0].backward()
    # every softmax is 1/16; in bf16, 4096 + 256/16 is 4096 again
    assert bias.grad is not None
    assert bias.grad[5] == blocks * ROWS / entries == 4800


def test_the_outer_gradient_is_not_rounded_to_bf16() -> None:
    """1 / 777 is 0.19 % off in bf16: every layer's gradient would be, by the same factor."""
    scale = torch.tensor(777.0, dtype=torch.float64).reciprocal()
    gradient = torch.arange(128, 256).bfloat16()  # exact
    found = scaled(gradient, scale)
    assert found is not None
    assert found.dtype == torch.bfloat16
    error = (found.double() / (gradient.double() * scale) - 1).mean()
    assert abs(float(error)) < 5e-4  # roundings that point both ways cancel; one of the scale would not
