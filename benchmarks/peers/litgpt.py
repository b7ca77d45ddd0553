"""litgpt's GPT in the loop of its `litgpt pretrain`: Fabric, torch.compile, its chunked_cross_entropy, AdamW unfused.

Its own default is bf16-mixed, compiled. Its model is Megalith's with positions turned into a quarter of each head
(GPT-NeoX) in place of a learned table: 0.7 % fewer parameters at the default shape.
"""

from importlib.metadata import version

import torch

from peers import CLIP_NORM, LEARNING_RATE, Steps, Task, Trained

PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}


def train(task: Task) -> Trained:
    import lightning
    from litgpt.config import Config
    from litgpt.model import GPT
    from litgpt.pretrain import initialize_weights
    from litgpt.utils import chunked_cross_entropy, instantiate_torch_optimizer

    torch.set_num_threads(task.threads)
    config = Config(
        block_size=task.length, vocab_size=task.vocab, padded_vocab_size=task.vocab, n_layer=task.layers,
        n_head=task.heads, n_embd=task.hidden, parallel_residual=False, bias=True, attn_bias=True,
        gelu_approximate="tanh", norm_class_name="LayerNorm", mlp_class_name="GptNeoxMLP",
    )  # fmt: skip
    fabric = lightning.Fabric(devices=1, accelerator="cpu", precision=PRECISION[task.precision])
    fabric.launch()
    fabric.seed_everything(0)
    with fabric.init_module(empty_init=True):
        model = GPT(config)
    initialize_weights(fabric, model, n_layer=config.n_layer, n_embd=config.n_embd)
    model.transformer.wte.weight = model.lm_head.weight
    trained, steps = Trained(sum(p.numel() for p in model.parameters())), Steps()
    model = fabric.setup(torch.compile(model) if task.compiled else model)
    optimizer = instantiate_torch_optimizer("AdamW", model.parameters(), lr=LEARNING_RATE, fused=False)
    optimizer = fabric.setup_optimizers(optimizer)
    for batch in torch.from_numpy(task.tokens()).split(task.sequences):
        logits = model(batch[:, :-1].contiguous())
        loss = chunked_cross_entropy(logits, batch[:, 1:].contiguous())
        fabric.backward(loss)
        fabric.clip_gradients(model, optimizer, max_norm=CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
        trained.losses.append(loss.item())
        steps.end()
    trained.seconds = steps.seconds()
    trained.versions = {"torch": torch.__version__, "litgpt": version("litgpt"), "lightning": version("lightning")}
    return trained
