"""Hugging Face's GPT2LMHeadModel under its Trainer, as its documents say; Trainer's own default is fp32.

The model is Megalith's. The last token of a sequence predicts nothing: transformers shifts the labels.
"""

import os
import tempfile
from typing import Any

import torch

from peers import CLIP_NORM, LEARNING_RATE, Steps, Task, Trained

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def train(task: Task) -> Trained:
    import transformers
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=task.vocab, n_positions=task.length, n_embd=task.hidden, n_layer=task.layers, n_head=task.heads,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    trained, steps = Trained(model.num_parameters()), Steps()

    class Watch(TrainerCallback):  # type: ignore[misc]  # transformers is not there where types are checked
        def on_step_end(self, *_: Any, **__: Any) -> None:
            steps.end()

        def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
            if "loss" in logs:
                trained.losses.append(float(logs["loss"]))

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=task.all_steps, per_device_train_batch_size=task.sequences,
            learning_rate=LEARNING_RATE, lr_scheduler_type="constant", max_grad_norm=CLIP_NORM,
            use_cpu=True, bf16=task.precision == "bf16",
            logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True,
        )  # fmt: skip
        rows = [{"input_ids": row, "labels": row} for row in torch.from_numpy(task.tokens()[:, :-1])]
        Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[Watch()]).train()
    trained.seconds = steps.seconds()
    trained.versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return trained
