"""A model that is read to be used in this process for a while: to write, to be scored, to be served."""

from pathlib import Path
from typing import Literal

import torch

from megalith import kernels
from megalith.console import note
from megalith.inference.load import LanguageModel, at_precision, load_model
from megalith.precision import DTYPE_NAMES
from megalith.processes import keep_freed_memory

Precision = Literal["fp32", "bf16"]


def load_prepared(directory: Path, precision: Precision = "fp32", *, keeps_memory: bool = True) -> LanguageModel:
    """Read a model as `load_model` does, with weights and products of a precision.

    This process takes the kernels that suit its processor, and keeps the memory that it frees.
    """
    lm = load_model(directory)
    if precision == "bf16" and not kernels.multiplies_bf16():
        note("this processor has no bf16 instructions: the model will be slower than in fp32")
    kernels.use(kernels.choose(torch.get_num_threads()))
    if keeps_memory:
        keep_freed_memory()
    dtype: torch.dtype = getattr(torch, DTYPE_NAMES[precision])
    return at_precision(lm, dtype)
