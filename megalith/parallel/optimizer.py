"""AdamW over the masters; its state goes by the parameters' names."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from megalith.parallel.master_weights import Master
from megalith.recipe import TrainConfig

MOMENTS = ("exp_avg", "exp_avg_sq")


class Optimizer:
    """torch's AdamW, which decays matrices and embeddings, and neither norms nor biases."""

    def __init__(self, masters: Sequence[Master], train: TrainConfig) -> None:
        self._masters = masters
        decayed = [m.value for m in masters if m.parameter.ndim >= 2]
        others = [m.value for m in masters if m.parameter.ndim < 2]
        groups = [{"params": decayed, "weight_decay": train.weight_decay}, {"params": others, "weight_decay": 0.0}]
        self._adam = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=train.learning_rate,
            betas=(train.beta1, train.beta2),
            eps=train.epsilon,
            fused=True,
        )
        for master in masters:  # so that a checkpoint finds them before the first step, and fills them
            zeros = {moment: torch.zeros_like(master.value) for moment in MOMENTS}
            steps = torch.zeros((), dtype=torch.float32, device=master.value.device)
            self._adam.state[master.value] = {"step": steps, **zeros}

    def update(self, learning_rate: float) -> None:
        """One step at this learning rate."""
        for group in self._adam.param_groups:
            group["lr"] = learning_rate
        self._adam.step()

    @property
    def steps(self) -> int:
        """Steps that have been taken; the same for all parameters."""
        return int(self._adam.state[self._masters[0].value]["step"])

    @steps.setter
    def steps(self, count: int) -> None:
        for master in self._masters:
            self._adam.state[master.value]["step"].fill_(count)

    def state(self) -> Mapping[str, Tensor]:
        """`NAME.exp_avg` and `NAME.exp_avg_sq` of every master, as DTensors placed like the parameter."""
        return {
            f"{m.name}.{moment}": m.as_dtensor(self._adam.state[m.value][moment])
            for m in self._masters
            for moment in MOMENTS
        }
