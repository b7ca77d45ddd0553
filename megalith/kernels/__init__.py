"""Products and functions that torch is slow at on a CPU, found quicker with torch's own operations.

Each gives what its counterpart in torch gives, up to rounding, and is that counterpart on a GPU, in other types and
under torch.compile. Whatever torch learns to do as fast is to be dropped from here.
"""

from megalith.kernels.causal import causal_attention
from megalith.kernels.gelu import gelu_tanh
from megalith.kernels.linear import Linear, linear, linear_backward

__all__ = ["Linear", "causal_attention", "gelu_tanh", "linear", "linear_backward"]
