"""Muon (Keller Jordan 2024; 2502.16982) over the masters of hidden matrices, by torch's own orthogonalisation.

The momentum of a matrix lies in pieces as its master does. The update wants the whole matrix: the pieces, narrowed to
bf16 as the Newton–Schulz iteration narrows them anyway, are brought together on one rank, another for each matrix in
turn, which sends the orthogonal matrix back to all. So a matrix is orthogonalised once among the ranks that share it by
tensor parallelism or ZeRO, and by each of the replicas of plain data parallelism.

The learning rate is multiplied by 0.2 · √max(rows, columns) (2502.16982 §2.2): an update has the size of AdamW's, and
both take the same learning rate and weight decay.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim._muon import (
    DEFAULT_A,
    DEFAULT_B,
    DEFAULT_C,
    DEFAULT_NS_STEPS,
    EPS,
    _adjust_lr,
    _zeropower_via_newtonschulz,
)

from megalith.parallel.master_weights import Master, region
from megalith.recipe import TrainConfig


def is_hidden_matrix(master: Master) -> bool:
    """Whether Muon moves it: a matrix of a layer. Embeddings, logits, heads, norms and biases are AdamW's."""
    return master.name.startswith("layers.") and master.parameter.ndim == 2


class Muon:
    """The state and the steps of the hidden matrices."""

    def __init__(self, masters: Sequence[Master], train: TrainConfig) -> None:
        self._masters, self._train = masters, train
        self.momenta = [torch.zeros_like(master.value.detach()) for master in masters]
        """The moving average of the gradients of each master."""

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move all masters at this learning rate. Every rank must call it."""
        momentum = self._train.momentum
        for number, (master, average) in enumerate(zip(self._masters, self.momenta, strict=True)):
            gradient = master.value.grad
            assert gradient is not None
            average.lerp_(gradient, 1 - momentum)
            update = gradient.lerp(average, momentum)  # Nesterov's
            rate = _adjust_lr(learning_rate, "match_rms_adamw", master.parameter.shape)
            master.value.mul_(1 - learning_rate * self._train.weight_decay)
            master.value.add_(_orthogonal(master, update, number), alpha=-rate)


def _orthogonal(master: Master, update: Tensor, number: int) -> Tensor:
    """This rank's piece of the orthogonal matrix nearest to the update of which `update` is its piece."""
    parameter = master.parameter
    if not isinstance(parameter, DTensor):
        return _newton_schulz(update)
    mesh, place = parameter.device_mesh, region(parameter)
    owner = _coordinate(number % mesh.size(), mesh.shape)
    whole = update.new_zeros(parameter.shape, dtype=torch.bfloat16)
    whole[place] = update
    cuts = [placement.is_shard() or hasattr(placement, "split_factor") for placement in parameter.placements]
    coordinate = mesh.get_coordinate()
    assert coordinate is not None
    own = tuple(coordinate)
    for axis in range(mesh.ndim):
        if cuts[axis] and own[:axis] == owner[:axis]:
            dist.reduce(whole, group=mesh.get_group(axis), group_dst=owner[axis])
    if own == owner:
        whole = _newton_schulz(whole).contiguous()
    for axis in reversed(range(mesh.ndim)):
        if own[:axis] == owner[:axis]:
            dist.broadcast(whole, group=mesh.get_group(axis), group_src=owner[axis])
    return whole[place]


def _coordinate(number: int, shape: Sequence[int]) -> tuple[int, ...]:
    """The place of the rank of this number in a mesh."""
    found = []
    for size in reversed(shape):
        number, place = divmod(number, size)
        found.append(place)
    return tuple(reversed(found))


def _newton_schulz(update: Tensor) -> Tensor:
    return _zeropower_via_newtonschulz(update, (DEFAULT_A, DEFAULT_B, DEFAULT_C), DEFAULT_NS_STEPS, EPS)
