"""Each kernel against its counterpart in torch, in fp64 and with gradients."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from megalith.kernels import Linear, causal_attention, gelu_tanh, linear_backward

ROUNDING = {torch.float64: 1e-14, torch.float32: 5e-7, torch.bfloat16: 5e-3}
"""Of one operation: a few units in the last place; bf16's is 2^-8 = 0.004."""


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.detach().double() - wanted.detach().double()).norm() / wanted.detach().double().norm())


@pytest.mark.parametrize("dtype", ROUNDING)
def test_gelu_is_torchs_with_its_gradient(dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(0)
    x = (torch.randn(3, 50, 2001, generator=random) * 3).to(dtype).requires_grad_()  # more than one cache's worth
    outer = torch.randn(x.shape, generator=random).to(dtype)
    exact = x.detach().double().requires_grad_()
    F.gelu(exact, approximate="tanh").backward(outer.double())
    y = gelu_tanh(x)
    y.backward(outer)
    assert y.dtype == dtype
    assert exact.grad is not None
    assert x.grad is not None
    assert relative(y, F.gelu(x.detach().double(), approximate="tanh")) < ROUNDING[dtype]
    assert relative(x.grad, exact.grad) < ROUNDING[dtype]


def test_gelu_has_no_holes_at_the_ends() -> None:
    ends = torch.tensor([-1e4, -30.0, 0.0, 30.0, 1e4])
    torch.testing.assert_close(gelu_tanh(ends), torch.tensor([0.0, 0.0, 0.0, 30.0, 1e4]), rtol=0, atol=0)
    assert gelu_tanh(torch.tensor([torch.nan])).isnan().all()


@pytest.mark.parametrize("length", [1, 100, 128, 300])
def test_causal_attention_is_torchs_with_its_gradients_and_the_same_bits_twice(length: int) -> None:
    random = torch.Generator().manual_seed(1)
    shape = (2, length, 3, 32)
    q, k, v, outer = (torch.randn(shape, generator=random).bfloat16().transpose(1, 2) for _ in range(4))
    inputs = [each.requires_grad_() for each in (q, k, v)]
    exact = [each.detach().double().requires_grad_() for each in inputs]
    wanted = F.scaled_dot_product_attention(*exact, is_causal=True)
    found = causal_attention(*inputs)
    assert relative(found, wanted) < 5e-3
    gradients = torch.autograd.grad(found, inputs, outer)
    # the gradient of the scores is a difference of rounded numbers: twice the rounding
    for mine, right in zip(gradients, torch.autograd.grad(wanted, exact, outer.double()), strict=True):
        assert relative(mine, right) < 1e-2 or float(right.norm()) < 1e-6
    again = torch.autograd.grad(causal_attention(*inputs), inputs, outer)
    assert all(torch.equal(one, other) for one, other in zip(gradients, again, strict=True))


@pytest.mark.parametrize("shape", [(4, 64, 48), (3, 5, 48)], ids=["convolved", "left to torch"])
def test_a_linear_layer_is_torchs_with_its_gradients(shape: tuple[int, ...]) -> None:
    torch.manual_seed(2)
    layer, x = Linear(48, 96), torch.randn(shape, requires_grad=True)
    outer = torch.randn(*shape[:-1], 96)
    y = layer(x)
    wide = [each.detach().double().requires_grad_() for each in (x, layer.weight, layer.bias)]
    wanted = F.linear(*wide)
    assert y.is_contiguous()
    assert relative(y, wanted) < ROUNDING[torch.float32]
    found = torch.autograd.grad(y, (x, layer.weight, layer.bias), outer)
    for mine, right in zip(found, torch.autograd.grad(wanted, wide, outer.double()), strict=True):
        assert relative(mine, right) < ROUNDING[torch.float32]


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("tokens", [64, 7], ids=["convolved in fp32", "left to torch"])
def test_gradients_of_a_product_are_the_two_products(tokens: int, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    gradient, x, weight = (torch.randn(shape).to(dtype) for shape in ((tokens, 24), (tokens, 40), (24, 40)))
    of_x, of_weight = linear_backward(gradient, x, weight)
    assert relative(of_x, gradient.double() @ weight.double()) < ROUNDING[dtype]
    assert relative(of_weight, gradient.double().T @ x.double()) < ROUNDING[dtype]
