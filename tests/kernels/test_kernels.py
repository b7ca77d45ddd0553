"""Each kernel against its counterpart in torch, in fp64 and with gradients."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from megalith.kernels import (
    Linear,
    add_weight_gradient,
    causal,
    causal_attention,
    for_few_rows,
    gelu_tanh,
    input_gradient,
    quick_norm,
    using,
)
from megalith.kernels.choice import ALTERNATIVES, PRODUCTS

ROUNDING = {torch.float64: 1e-14, torch.float32: 5e-7, torch.bfloat16: 5e-3}
"""Tolerance of one operation: a few units in the last place; bf16's is 2^-8 = 0.004."""


@pytest.fixture(autouse=True)
def ours() -> Iterator[None]:
    """None of torch's own, where there is another."""
    with using(ALTERNATIVES):
        yield


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


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("length", [1, 100, 128, 192, 300, 600])
def test_causal_attention_is_torchs_with_its_gradients_and_the_same_bits_twice(
    length: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causal, "_SCORES_AT_A_TIME", causal.FP32_BLOCK * length * 2)  # several groups of heads
    random = torch.Generator().manual_seed(1)
    shape = (2, length, 3, 32)
    q, k, v, outer = (torch.randn(shape, generator=random).to(dtype).transpose(1, 2) for _ in range(4))
    inputs = [each.requires_grad_() for each in (q, k, v)]
    exact = [each.detach().double().requires_grad_() for each in inputs]
    wanted = F.scaled_dot_product_attention(*exact, is_causal=True)
    found = causal_attention(*inputs)
    assert relative(found, wanted) < ROUNDING[dtype]
    gradients = torch.autograd.grad(found, inputs, outer)
    # the gradient of the scores is a difference of rounded numbers: twice the rounding
    for mine, right in zip(gradients, torch.autograd.grad(wanted, exact, outer.double()), strict=True):
        assert relative(mine, right) < 2 * ROUNDING[dtype] or float(right.norm()) < 1e-6
    again = torch.autograd.grad(causal_attention(*inputs), inputs, outer)
    assert all(torch.equal(one, other) for one, other in zip(gradients, again, strict=True))


LARGE, SMALL = (16, 128, 192), (3, 5, 192)
"""Enough rows for a convolution to be taken (2^26 multiplications in all), and not."""


@pytest.mark.parametrize("which", [*PRODUCTS, "all"])
@pytest.mark.parametrize("shape", [LARGE, SMALL], ids=["convolved", "left to torch"])
def test_a_linear_layer_is_torchs_with_its_gradients(shape: tuple[int, ...], which: str) -> None:
    torch.manual_seed(2)
    layer, x = Linear(192, 256), torch.randn(shape, requires_grad=True)
    outer = torch.randn(*shape[:-1], 256)
    choice = ALTERNATIVES if which == "all" else {f"fp32 linear {which}": "convolution"}
    with using(choice):
        y = layer(x)
        found = torch.autograd.grad(y, (x, layer.weight, layer.bias), outer)
        with torch.no_grad():
            assert torch.equal(layer(x), y)
    wide = [each.detach().double().requires_grad_() for each in (x, layer.weight, layer.bias)]
    wanted = F.linear(*wide)
    assert y.is_contiguous()
    assert relative(y, wanted) < ROUNDING[torch.float32]
    for mine, right in zip(found, torch.autograd.grad(wanted, wide, outer.double()), strict=True):
        assert mine.shape == right.shape
        assert relative(mine, right) < ROUNDING[torch.float32]


@pytest.mark.parametrize("frozen", ["x", "weight"])
def test_a_gradient_that_nobody_wants_is_not_computed(frozen: str) -> None:
    torch.manual_seed(2)
    layer, x = Linear(192, 256), torch.randn(LARGE, requires_grad=frozen != "x")
    layer.weight.requires_grad_(frozen != "weight")
    layer(x).sum().backward()
    assert (x.grad is None) == (frozen == "x")
    assert (layer.weight.grad is None) == (frozen == "weight")


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("tokens", [1024, 7], ids=["convolved in fp32", "left to torch"])
def test_gradients_of_a_product_are_the_two_products(tokens: int, dtype: torch.dtype) -> None:
    torch.manual_seed(3)
    gradient, x, weight = (torch.randn(shape).to(dtype) for shape in ((tokens, 512), (tokens, 128), (512, 128)))
    assert relative(input_gradient(gradient, x, weight), gradient.double() @ weight.double()) < ROUNDING[dtype]
    total = torch.ones(512, 128, dtype=torch.promote_types(dtype, torch.float32))
    add_weight_gradient(total, gradient, x, weight)
    assert relative(total, 1 + gradient.double().T @ x.double()) < ROUNDING[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("made_for", [1, 8])
def test_a_layer_for_few_rows_is_a_linear_layer_at_any_number_of_rows(dtype: torch.dtype, made_for: int) -> None:
    random = torch.Generator().manual_seed(4)
    for bias in (None, torch.randn(300, generator=random).to(dtype)):
        weight = torch.randn(300, 200, generator=random).to(dtype)
        layer = for_few_rows(weight, bias, made_for)
        if layer is None and dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            pytest.skip("oneDNN has no bf16 blocks on this processor")
        assert layer is not None
        for shape in ((1, 200), (8, 200), (1, 37, 200)):
            x = torch.randn(shape, generator=random).to(dtype)
            wanted = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
            found = layer(x)
            assert found.dtype == dtype
            assert relative(found, wanted) < ROUNDING[dtype]
    with using({}):
        assert for_few_rows(weight, None, made_for) is None
    assert for_few_rows(weight.double(), None, made_for) is None


def test_a_quick_norm_is_rms_norm_of_large_small_and_zero_rows() -> None:
    random = torch.Generator().manual_seed(5)
    norm = torch.nn.RMSNorm(96, eps=1e-5)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(96, generator=random) + 0.5)
    x = torch.randn(2, 5, 96, generator=random) * torch.tensor([1e4, 1.0, 1e-3, 1e-8, 0.0])[:, None]
    quick = quick_norm(norm)
    assert quick is not None
    torch.testing.assert_close(quick(x).double(), norm.double()(x.double()), rtol=1e-6, atol=1e-12)
    assert quick_norm(norm.bfloat16()) is None
