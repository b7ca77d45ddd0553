"""Time each implementation beside torch's own: `python -m megalith.kernels.contest THREADS PARENT` prints the choice.

Ours is chosen for an operation where it takes less processor time than torch's by a margin, and no more wall time, at
every shape of the contest. Both take turns, and the least of several rounds counts: a busy neighbour makes a round
slower, nothing makes it faster. What is slow here anyway (bf16 where it is emulated) is not timed twice.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from megalith.kernels.causal import causal_attention
from megalith.kernels.choice import ALTERNATIVES, NAMES, TORCH, using
from megalith.kernels.gelu import gelu_tanh
from megalith.kernels.linear import add_weight_gradient, input_gradient, linear
from megalith.processes import die_with

MARGIN = 0.95  # of torch's processor time: less than this, or torch's own is taken
ROUNDS = 4
WORK_SECONDS = 1.5  # of the processor, for all; what has not been timed by then is torch's
SLOW_SECONDS = 0.1  # an operation that takes this long at its smallest shape is emulated: it is torch's
_BATCHES = (1, 4)  # sequences of attention, smallest first
_TOKENS, _HEADS, _WIDTH = 256, 6, 64

Work = Callable[[], object]


def contest(threads: int) -> dict[str, str]:
    """The implementation that each operation should have on this processor with this many threads."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    end = time.process_time() + WORK_SECONDS
    choice = dict.fromkeys(ALTERNATIVES, TORCH)
    for operation, ours in ALTERNATIVES.items():
        shapes = _shapes(operation)
        won = False
        for work in shapes:
            won = time.process_time() < end and _wins(work, operation, ours)
            if not won:
                break
        if won:
            choice[operation] = ours
    return choice


def _wins(work: Work, operation: str, ours: str) -> bool:
    """Whether ours is the quicker of the two at one shape."""
    least = {TORCH: (float("inf"), float("inf")), ours: (float("inf"), float("inf"))}
    for number in range(ROUNDS + 1):
        for implementation in least:
            with using({operation: implementation}):
                processor, wall = time.process_time(), time.perf_counter()
                work()
                taken = time.process_time() - processor, time.perf_counter() - wall
            if number == 0 and taken[0] > SLOW_SECONDS * torch.get_num_threads():
                return False
            if number > 0:  # the first round fills caches and makes oneDNN's kernels
                before = least[implementation]
                least[implementation] = min(before[0], taken[0]), min(before[1], taken[1])
        if number > 0 and least[ours][0] > least[TORCH][0]:
            return False
    return least[ours][0] < MARGIN * least[TORCH][0] and least[ours][1] <= least[TORCH][1]


def _shapes(operation: str) -> Iterator[Work]:
    """The operation at each shape of the contest, smallest first."""
    precision, kind, *product = operation.split(" ", 2)
    dtype = next(each for each, name in NAMES.items() if name == precision)
    if kind == "attention":
        for batch in _BATCHES:
            q, k, v = (_random(batch, _TOKENS, _HEADS, _WIDTH, dtype=dtype).transpose(1, 2) for _ in range(3))
            yield partial(_back_and_forth, causal_attention, q, k, v)
    elif kind == "gelu":
        for rows in (64, 1024):
            yield partial(_back_and_forth, gelu_tanh, _random(rows, 1536, dtype=dtype))
    else:
        sizes = [(1024, 256, 256), (1024, 384, 1536)] if kind == "linear" else [(256, 384, 8192)]
        for size in sizes:
            yield _product(product[0], *size)


def _product(product: str, tokens: int, inputs: int, outputs: int) -> Work:
    x, weight, gradient = _random(tokens, inputs), _random(outputs, inputs), _random(tokens, outputs)
    if product == "forward":
        return partial(_without_gradient, linear, x, weight)
    if product == "input gradient":
        return partial(input_gradient, gradient, x, weight)
    return partial(add_weight_gradient, torch.zeros_like(weight), gradient, x, weight)


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
