"""Products and functions that torch is slow at on some CPUs, found quicker with torch's own operations.

Each gives what its counterpart in torch gives, up to rounding, and is that counterpart unless `use` has been told
otherwise: `choose` finds by measurement what suits the processor, and `chosen` says what is in use. On a GPU, in other
types and under torch.compile each is torch's own.
"""

from megalith.kernels.causal import causal_attention
from megalith.kernels.choice import chosen, use, using
from megalith.kernels.few_rows import for_few_rows
from megalith.kernels.gelu import gelu_tanh
from megalith.kernels.linear import Linear, add_weight_gradient, input_gradient, linear
from megalith.kernels.processor import caps, multiplies_bf16
from megalith.kernels.remembered import choose
from megalith.kernels.rms_norm import quick_norm

__all__ = [
    "Linear",
    "add_weight_gradient",
    "caps",
    "causal_attention",
    "choose",
    "chosen",
    "for_few_rows",
    "gelu_tanh",
    "input_gradient",
    "linear",
    "multiplies_bf16",
    "quick_norm",
    "use",
    "using",
]
