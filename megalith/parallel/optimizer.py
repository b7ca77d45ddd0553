"""AdamW over the masters, or Muon over those that are hidden matrices; the state goes by the parameters' names."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from megalith.parallel.master_weights import Master
from megalith.parallel.muon import Muon, is_hidden_matrix
from megalith.recipe import TrainConfig

MOMENTS = ("exp_avg", "exp_avg_sq")


class Optimizer:
    """torch's AdamW, and Muon beside it where the recipe says so; norms and biases are not decayed."""

    def __init__(self, masters: Sequence[Master], train: TrainConfig) -> None:
        hidden = [m for m in masters if train.optimizer == "muon" and is_hidden_matrix(m)]
        self._muon = Muon(hidden, train)
        known = {id(master) for master in hidden}
        self._hidden, self._masters = hidden, [m for m in masters if id(m) not in known]
        masters = self._masters  # AdamW's; every stage has some: the norms
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
        self._muon.step(learning_rate)

    @property
    def steps(self) -> int:
        """Steps that have been taken; the same for all parameters."""
        return int(self._adam.state[self._masters[0].value]["step"])

    @steps.setter
    def steps(self, count: int) -> None:
        for master in self._masters:
            self._adam.state[master.value]["step"].fill_(count)

    def state(self) -> Mapping[str, Tensor]:
        """`NAME.exp_avg` and `NAME.exp_avg_sq` of every master, as DTensors placed like the parameter.

        Of one that Muon moves it is `NAME.momentum`.
        """
        momenta = zip(self._hidden, self._muon.momenta, strict=True)
        return {f"{m.name}.momentum": m.as_dtensor(each) for m, each in momenta} | {
            f"{m.name}.{moment}": m.as_dtensor(self._adam.state[m.value][moment])
            for m in self._masters
            for moment in MOMENTS
        }
