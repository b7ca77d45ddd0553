"""The number formats that a model may compute in, and the bytes of one number in each."""

from typing import Literal

Precision = Literal["fp32", "bf16", "fp16"]

Fp8 = Literal["tensor", "block", "mx"]
"""How fp8 numbers are scaled where a layer's products are in fp8: one scale for a tensor (delayed or current), one for
each block of 128 (2412.19437 §3.3.2), or one for each 32 in hardware (MXFP8, OCP Microscaling Formats 1.0)."""

DTYPE_NAMES: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Attributes of `torch`, for those who import it."""

FP32_BYTES = 4


def compute_bytes(precision: str) -> int:
    """Bytes of one number in a layer's products; "auto" counts as bf16."""
    return FP32_BYTES if precision == "fp32" else 2
