"""Checkpoints: sharded directories of safetensors and JSON that know no layout, and are whole or absent.

`step-XXXXXXXX/` holds `shard-XXXXX.safetensors`, one from each rank that has something to write, `index.json`, which
says where each piece of each tensor lies, and `state.json`, which names the SHA-256 of all of them and of itself.
Beside the directories, `steps.jsonl` and `validation.jsonl` hold the run's history, which only grows, and `latest` the
name of the newest. PyTorch's distributed checkpoint (DCP) plans who writes and reads what; its files, which are
pickles in part, are replaced by ours. Nothing is ever unpickled from a file. Equal states of one layout give equal
bytes.
"""

from megalith.training.checkpoint.load import Found, consolidate, load, model_tensors, newest, open_step, open_together
from megalith.training.checkpoint.mirror import Mirror, Mirroring
from megalith.training.checkpoint.save import Saver
from megalith.training.checkpoint.state import Progress, State, last_sound

__all__ = [
    "Found",
    "Mirror",
    "Mirroring",
    "Progress",
    "Saver",
    "State",
    "consolidate",
    "last_sound",
    "load",
    "model_tensors",
    "newest",
    "open_step",
    "open_together",
]
