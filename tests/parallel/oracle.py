"""The reference of the cells: the steps of one process, written without any parallelism.

The whole model, whole batches, torch's cross entropy over full logits, torch's clipping and AdamW.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from megalith.model import MODELS, Transformer, initialise
from megalith.recipe import ModelConfig, TrainConfig
from tests.parallel.cells import SEQUENCES, sample_batch

STEPS, SEED, RATE, CLIP, DECAY = 5, 11, 0.01, 0.5, 0.1


@dataclass(frozen=True)
class Outcome:
    """The results of five steps."""

    losses: list[list[float]]
    norms: list[float]
    gradients: dict[str, Tensor]
    """Gradients of the first step, before clipping."""
    parameters: dict[str, Tensor]


def whole_model_steps(config: ModelConfig, train: TrainConfig) -> Outcome:
    """The oracle, in torch's default type; of `train` it takes what is not set above."""
    model: Transformer = MODELS[config.family](config)
    initialise(model, config, SEED)
    muon = train.optimizer == "muon"
    hidden = [p for name, p in model.named_parameters() if muon and "layers" in name and p.ndim == 2]
    decayed = [p for p in model.parameters() if p.ndim > 1 and all(p is not each for each in hidden)]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), eps=1e-8, fused=False, foreach=False)
    optimizers: list[torch.optim.Optimizer] = [optimizer]
    if muon:
        optimizers.append(torch.optim.Muon(hidden, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"))
    losses, norms, gradients = [], [], {}
    for step in range(STEPS):
        batch = sample_batch(config, step, 0, SEQUENCES, documents=train.document_mask)
        parts = mean_losses(model, batch, train.z_loss)
        model.zero_grad()
        torch.stack(parts).sum().backward()
        if step == 0:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
        losses.append([float(part.detach()) for part in parts])
        for each in optimizers:
            each.step()
    return Outcome(losses, norms, gradients, {name: p.detach() for name, p in model.named_parameters()})


def mean_losses(model: Transformer, batch: dict[str, Tensor], z_loss: float) -> list[Tensor]:
    """The mean over predicted tokens, for a bert over the sentence pairs of the whole batch, and of the z-loss."""
    config = model.config
    if config.family == "bert":
        logits, order = model(batch["tokens"], segments=batch["segments"], lengths=batch["lengths"])
        others = [F.cross_entropy(order, batch["order"])]
    else:
        alone = "document_starts" in batch
        logits, others = document_by_document(model, batch) if alone else model(batch["tokens"]), []
    tokens = logits[..., : config.vocab_size].flatten(0, 1)
    targets = batch["targets"].flatten()
    if z_loss:
        others.append(z_loss * tokens[targets != -100].logsumexp(-1).square().mean())
    return [F.cross_entropy(tokens, targets, ignore_index=-100), *others]


def document_by_document(model: Transformer, batch: dict[str, Tensor]) -> Tensor:
    """The logits (B, T, V) of each document read by itself."""
    rows = []
    for tokens, starts in zip(batch["tokens"], batch["document_starts"], strict=True):
        lengths = starts.unique_consecutive(return_counts=True)[1].tolist()
        rows.append(torch.cat([model(document[None])[0] for document in tokens.split(lengths)]))
    return torch.stack(rows)
