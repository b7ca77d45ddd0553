"""The number formats that a model may compute in, and the bytes of one number in each."""

from typing import Literal

Precision = Literal["fp32", "bf16", "fp16"]

DTYPE_NAMES: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Attributes of `torch`, for those who import it."""

FP32_BYTES = 4


def compute_bytes(precision: str) -> int:
    """Bytes of one number in a layer's products; "auto" counts as bf16."""
    return FP32_BYTES if precision == "fp32" else 2
