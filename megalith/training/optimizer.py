"""AdamW over fp32 weights; its state goes by the parameters' names."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from megalith.recipe import TrainConfig

STATE = ("step", "exp_avg", "exp_avg_sq")


def make_optimizer(model: nn.Module, train: TrainConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices and embeddings, and neither norms nor biases."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=train.learning_rate, betas=(train.beta1, train.beta2), eps=train.epsilon, fused=True
    )


def update(optimizer: torch.optim.AdamW, learning_rate: float) -> None:
    """One step at this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()


def optimizer_state(model: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """`NAME.step`, `NAME.exp_avg` and `NAME.exp_avg_sq` of every parameter that has been updated."""
    return {
        f"{name}.{key}": optimizer.state[parameter][key]
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for key in STATE
    }


def load_optimizer_state(model: nn.Module, optimizer: torch.optim.AdamW, state: Mapping[str, Tensor]) -> None:
    """Take up what `optimizer_state` gave."""
    for name, parameter in model.named_parameters():
        if f"{name}.step" in state:
            optimizer.state[parameter] = {key: state[f"{name}.{key}"] for key in STATE}
