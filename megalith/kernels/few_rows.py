"""Linear layers that are only read, laid out once for products with few rows, as generation makes them.

A product with a few rows takes as long as its weights take to come from memory, if the kernel is good. For one row
MKL's reaches two thirds of the bandwidth on AMD's processors where outputs are more than inputs, unless the weights lie
column by column; for several rows it reaches half of what oneDNN does with the weights in blocks.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from megalith.kernels.choice import NAMES, is_ours


def for_few_rows(weight: Tensor, bias: Tensor | None, rows: int) -> nn.Module | None:
    """A layer x·weightᵀ + bias, (…, E) to (…, F), with a copy of `weight` (F, E), quick for up to so many rows.

    None where torch's own is the choice.
    """
    if type(weight) not in (Tensor, nn.Parameter) or weight.device.type != "cpu" or weight.dtype not in NAMES:
        return None
    if not is_ours(f"{NAMES[weight.dtype]} {'one row' if rows == 1 else 'few rows'}"):
        return None
    plain, own_bias = weight.detach(), None if bias is None else bias.detach()
    if rows == 1 and weight.dtype == torch.float32:
        return _Columns(plain, own_bias) if len(weight) > weight.shape[1] or weight.shape[1] <= _SHORT else None
    return _Blocks(plain, own_bias, rows) if _has_blocks(weight.dtype) else None


def _has_blocks(dtype: torch.dtype) -> bool:
    """Whether oneDNN has blocks of this type on this processor: of bf16 it wants AVX-512 or later instructions."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Columns(nn.Module):
    """The weights lie column by column."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._columns, self._bias = weight.T.contiguous(), bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self._columns.T, self._bias)


class _Blocks(nn.Module):
    """The weights lie in oneDNN's blocks too, which only it can read; a single row of fp32 is MKL's all the same."""

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int) -> None:
        super().__init__()
        self._weight, self._bias = weight, bias
        self._blocks = torch.ops.mkldnn._reorder_linear_weight(weight, max(rows, _ROWS))

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == torch.float32 and x.numel() == x.shape[-1]:
            return F.linear(x, self._weight, self._bias)
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._blocks, self._bias, "none", [], "")
        return found


_SHORT = 1024  # inputs up to which MKL's kernel for rows is slower whatever the outputs
_ROWS = 8  # the blocks of fewer rows are slower at more, and hardly quicker themselves
