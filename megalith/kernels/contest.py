"""Time each implementation beside torch's own: `python -m megalith.kernels.contest THREADS PARENT` prints the choice.

Ours is chosen for an operation where it takes less processor time than torch's by a margin, and no more wall time, at
every shape of the contest. Both take turns, and the least of several rounds counts: a busy neighbour makes a round
slower, nothing makes it faster. What is slow here anyway (bf16 where it is emulated) is found out by a tiny trial.
"""

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from megalith.kernels.causal import causal_attention
from megalith.kernels.choice import ALTERNATIVES, NAMES, TORCH, is_ours, using
from megalith.kernels.few_rows import for_few_rows
from megalith.kernels.gelu import gelu_tanh
from megalith.kernels.linear import add_weight_gradient, input_gradient, linear
from megalith.processes import die_with, keep_freed_memory

MARGIN = 0.95  # of torch's processor time: less than this, or torch's own is taken
HOPELESS = 1.2  # of torch's processor time after a first round: no more rounds
ROUNDS = 4
WORK_SECONDS = 6.0  # of the processor, for all; what has not been decided by then is torch's
SLOW_SECONDS = 0.005  # of a trial: an operation that takes longer is emulated, and torch's
TRIALS = 3

Work = Callable[[], object]


def contest(threads: int) -> dict[str, str]:
    """The implementation that each operation should have on this processor with this many threads."""
    keep_freed_memory()  # as training does: else what takes more memory pays for its pages at each call
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    end = time.process_time() + WORK_SECONDS
    choice = dict.fromkeys(ALTERNATIVES, TORCH)
    for operation, ours in ALTERNATIVES.items():
        with contextlib.suppress(RuntimeError):  # torch has no such kernel on this processor
            if _wins_everywhere(operation, ours, end):
                choice[operation] = ours
    return choice


def _wins_everywhere(operation: str, ours: str, end: float) -> bool:
    trial, *shapes = _shapes(operation)
    slow = min(_times(trial())[0] for _ in range(TRIALS)) > SLOW_SECONDS
    return not slow and all(_wins(shape(), operation, ours, end) for shape in shapes)


def _wins(work: Work, operation: str, ours: str, end: float) -> bool:
    """Whether ours is the quicker of the two at one shape; False at `end`."""
    least = {TORCH: (math.inf, math.inf), ours: (math.inf, math.inf)}
    for number in range(ROUNDS + 1):
        if time.process_time() > end:
            return False
        for implementation, before in least.items():
            with using({operation: implementation}):
                taken = _times(work)
            if number > 0:  # the first round fills caches and makes oneDNN's kernels
                least[implementation] = min(before[0], taken[0]), min(before[1], taken[1])
        if number > 0 and least[ours][0] > HOPELESS * least[TORCH][0]:
            return False
    return least[ours][0] < MARGIN * least[TORCH][0] and least[ours][1] <= least[TORCH][1]


def _times(work: Work) -> tuple[float, float]:
    """Seconds of the processor and of the clock that one call takes."""
    processor, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - processor, time.perf_counter() - wall


def _shapes(operation: str) -> list[Callable[[], Work]]:
    """Return the makers of the operation's work: a trial too small to count, then the shapes of the contest."""
    precision, kind, *product = operation.split(" ", 2)
    dtype = next(each for each, name in NAMES.items() if name == precision)
    if "attention" in operation:
        short = [(4, 256, 6), (16, 128, 2)] if dtype == torch.bfloat16 else [(4, 256, 6), (8, 384, 2)]
        sizes = [(1, 64, 1), *([(1, 1024, 6), (1, 2048, 2)] if kind == "long" else short)]
        return [partial(_attention, dtype, *size) for size in sizes]  # sequences, tokens, heads
    if kind == "gelu":
        return [partial(_gelu, dtype, rows) for rows in (16, 512, 2048)]
    if "row" in operation:  # weights that no cache holds, as a model's
        sizes = [(1, 64, 128), (8, 1024, 3072)]  # layers, inputs, outputs
        return [partial(_reading, dtype, 1 if kind == "one" else 8, *size) for size in sizes]
    sizes = [(64, 64, 64)]  # tokens, inputs, outputs
    sizes += [(1024, 256, 256), (1024, 384, 1536)] if kind == "linear" else [(256, 384, 8192)]
    return [partial(_product, product[0], *size) for size in sizes]


def _attention(dtype: torch.dtype, sequences: int, tokens: int, heads: int) -> Work:
    q, k, v = (_random(sequences, tokens, heads, 64, dtype=dtype).transpose(1, 2) for _ in range(3))
    return partial(_back_and_forth, causal_attention, q, k, v)


def _gelu(dtype: torch.dtype, rows: int) -> Work:
    return partial(_back_and_forth, gelu_tanh, _random(rows, 1536, dtype=dtype))


def _product(product: str, tokens: int, inputs: int, outputs: int) -> Work:
    x, weight, gradient = _random(tokens, inputs), _random(outputs, inputs), _random(tokens, outputs)
    if product == "forward":
        return partial(_without_gradient, linear, x, weight)
    if product == "input gradient":
        return partial(input_gradient, gradient, x, weight)
    return partial(add_weight_gradient, torch.zeros_like(weight), gradient, x, weight)


def _reading(dtype: torch.dtype, rows: int, layers: int, inputs: int, outputs: int) -> Work:
    x = _random(rows, inputs, dtype=dtype)
    weights = [_random(outputs, inputs, dtype=dtype) for _ in range(layers)]
    theirs = [partial(F.linear, x, weight) for weight in weights]
    with using(ALTERNATIVES):
        ours = [partial(layer, x) for each in weights if (layer := for_few_rows(each, None, rows)) is not None]
    operation = f"{NAMES[dtype]} {'one row' if rows == 1 else 'few rows'}"
    return lambda: [_without_gradient(each) for each in (ours if ours and is_ours(operation) else theirs)]


def _random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape).to(dtype)


@torch.no_grad()
def _without_gradient(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    function(*inputs)


def _back_and_forth(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    own = [each.detach().requires_grad_() for each in inputs]
    y = function(*own)
    torch.autograd.grad(y, own, torch.ones_like(y))


if __name__ == "__main__":
    die_with(int(sys.argv[2]))
    sys.stdout.write(json.dumps(contest(int(sys.argv[1]))) + "\n")
