"""Embeddings whose gradient adds up many tokens in fp32, whatever the type of the table."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Embedding(nn.Embedding):
    """A table (V, E), in fp32 or, where ZeRO has narrowed what it gathers, in the layers' type."""

    def forward(self, input: Tensor) -> Tensor:
        """Ids (…) to rows (…, E)."""
        return look_up(input, self.weight)


def look_up(ids: Tensor, table: Tensor) -> Tensor:
    """Rows (…, E) of a table (V, E) by ids (…)."""
    if adds_up_in_fp32(table):
        return F.embedding(ids, table)
    rows: Tensor = _Rows.apply(ids, table)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
    return rows


def adds_up_in_fp32(table: Tensor) -> bool:
    """Whether torch's own gradient of this table does: a GPU's always; a CPU's adds in the type of the table."""
    return table.device.type != "cpu" or torch.finfo(table.dtype).bits >= 32


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows, ctx.dtype = len(table), table.dtype
        return F.embedding(ids, table)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[None, Tensor]:
        (ids,) = ctx.saved_tensors
        wide = torch.ops.aten.embedding_dense_backward(outer[0].float(), ids, ctx.rows, -1, False)
        return None, wide.to(ctx.dtype)
