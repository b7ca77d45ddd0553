"""A plain loop in nanoGPT's manner: what one writes by hand with torch.

Autocast, full logits, cross_entropy, clip_grad_norm_, AdamW. On a CPU nanoGPT's own train.py computes in fp32, and
compiles the model unless told not to.
"""

import torch
from torch import nn
from torch.nn import functional as F

from peers import CLIP_NORM, LEARNING_RATE, Steps, Task, Trained


class Block(nn.Module):
    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.qkv, self.out = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, e = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(b, t, 3, self.heads, e // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, e))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.tokens = nn.Embedding(task.vocab, task.hidden)
        self.places = nn.Embedding(task.length, task.hidden)
        self.blocks = nn.ModuleList(Block(task.hidden, task.heads) for _ in range(task.layers))
        self.norm = nn.LayerNorm(task.hidden)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.places.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.norm(x) @ self.tokens.weight.T
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def train(task: Task) -> Trained:
    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    model = GPT(task)
    trained, steps = Trained(sum(p.numel() for p in model.parameters())), Steps()
    compute = torch.compile(model) if task.compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, fused=True)
    for batch in torch.from_numpy(task.tokens()).split(task.sequences):
        with torch.autocast("cpu", torch.bfloat16, enabled=task.precision == "bf16"):
            loss = compute(batch[:, :-1].contiguous(), batch[:, 1:].contiguous())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        trained.losses.append(loss.item())
        steps.end()
    trained.seconds = steps.seconds()
    trained.versions = {"torch": torch.__version__}
    return trained
