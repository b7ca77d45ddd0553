"""Storage elsewhere: artifacts, models and checkpoints behind `s3://`, `gs://`, `hf://` and `https://`.

Reading goes through a verified copy on this machine (`copies.py`); writing puts the file last that makes the others
valid (`push.py`; for checkpoints `training/checkpoint/mirror.py`). An object store has neither renames nor locks, so no
run works in one.
"""

from megalith.storage.addresses import join, refuse_remote, refuse_secrets, scheme_of, storage_address
from megalith.storage.copies import fetch_bytes, fetch_file, local_copy
from megalith.storage.push import Pushed, push
from megalith.storage.ranges import Ranges, open_ranges
from megalith.storage.store import Object, Store

__all__ = [
    "Object",
    "Pushed",
    "Ranges",
    "Store",
    "fetch_bytes",
    "fetch_file",
    "join",
    "local_copy",
    "open_ranges",
    "push",
    "refuse_remote",
    "refuse_secrets",
    "scheme_of",
    "storage_address",
]
