"""Loading: the newest whole checkpoint, into tensors of any layout, or into one file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader
from torch.distributed.checkpoint.api import CheckpointException

from megalith.artifacts import file_digest
from megalith.artifacts.checkpoints import STATE
from megalith.console import note
from megalith.errors import InputError
from megalith.training.checkpoint.files import Written, in_order_of_trust
from megalith.training.checkpoint.pieces import Piece, PieceLoadPlanner, pieces
from megalith.training.checkpoint.state import Progress, Sealed, read_history, unseal
from megalith.training.checkpoint.storage import INDEX, Index, ShardReader
from megalith.training.checkpoint.tensors import Spec, write_tensors

T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """A checkpoint whose files are as they were written."""

    path: Path
    progress: Progress = field(repr=False)
    extras: Mapping[str, Any]
    index: Index = field(repr=False)


def newest(directory: Path, run: str, group: dist.ProcessGroup | None = None) -> Found | None:
    """The newest whole checkpoint of this run, or None. Damaged ones are passed over, with a word to the user.

    The one that `latest` names comes first, so that a person can take a run back to an earlier one. Without a `group`
    (one that moves CPU tensors), this process looks by itself. With one, all of its ranks call this and get the same
    answer, and each file is read and digested by one of them.
    """
    ranks = _Ranks(group)
    for name in ranks.first([str(name) for name in in_order_of_trust(directory)]):
        found = _look_at(directory / name, run, ranks)
        if isinstance(found, Found):
            return found
        ranks.note(f"{directory / name}: this checkpoint is passed over: {found}.")
    return None


def open_together(path: Path, run: str, group: dist.ProcessGroup | None = None) -> Found:
    """The checkpoint in this one directory; with a `group` all of its ranks call this. Raises InputError where it is
    missing, damaged or of another run."""
    found = _look_at(path, run, _Ranks(group))
    if isinstance(found, Found):
        return found
    raise InputError(f"this checkpoint cannot be used: {found}.", where=str(path), mend="Use another step.")


def _look_at(path: Path, run: str, ranks: "_Ranks") -> "Found | str":
    """The checkpoint, or what is wrong with it."""
    content = ranks.first(_read(path / STATE))
    sealed = unseal(content) if content is not None else None
    if sealed is None:
        return f"{STATE} is missing, damaged or of another version"
    if sealed.progress["run"] != run:
        return "it is of another run"
    faults = ranks.all(_fault(path, _share(sealed.files, ranks)))
    return next((each for each in faults if each), "") or _found(path, sealed, ranks)


def load(
    found: Found,
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    group: dist.ProcessGroup | None = None,
) -> None:
    """Fill the tensors in place, plain ones and DTensors, whatever layout they were saved from.

    Each rank names the tensors that it holds; others in the checkpoint are left. Raises InputError where a name
    or a shape is asked for that the checkpoint does not have: on this rank, or, with a `group`, all of whose ranks then
    call this, on every one.
    """
    wanted = pieces(model, optimizer)
    for misfit in _Ranks(group).all(_misfit(found.index, wanted)):
        if misfit:
            raise InputError(f"{misfit}.", where=str(found.path), mend="It was written for another model or optimizer.")
    _fill(found, wanted)


def consolidate(found: Found, path: Path) -> None:
    """Write the model into one safetensors file, with whole tensors under their own names; one is in memory at a time.

    Equal models give equal bytes, whatever layout they were saved from. Raises OSError.
    """
    specs, whole = model_tensors(found)
    write_tensors(path, specs, whole)


def model_tensors(found: Found) -> tuple[dict[str, Spec], Callable[[str], Tensor]]:
    """The model's tensors under their own names, and a function that reads one whole, whatever it was saved from."""
    prefix = "model."
    names = [name.removeprefix(prefix) for name in found.index.tensors if name.startswith(prefix)]
    specs = {name: found.index.tensors[f"{prefix}{name}"].spec for name in names}

    def whole(name: str) -> Tensor:
        tensor = torch.empty(specs[name].shape, dtype=specs[name].dtype)
        _fill(found, pieces({name: tensor}, {}))
        return tensor

    return specs, whole


def open_step(path: Path) -> Found:
    """The checkpoint in this one directory, of whatever run. Raises InputError where it is damaged."""
    content = _read(path / STATE)
    sealed = unseal(content) if content is not None else None
    fault = _fault(path, sealed.files) if sealed else f"{STATE} is missing, damaged or of another version"
    if sealed is None or fault:
        raise InputError(f"this checkpoint cannot be used: {fault}.", where=str(path), mend="Use another step.")
    return _found(path, sealed, _Ranks(None))


class _Ranks:
    """Broadcast and gather over the ranks of a group; a process without one is alone."""

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self.group = group
        self.rank = dist.get_rank(group) if group else 0
        self.count = dist.get_world_size(group) if group else 1

    def first(self, value: T) -> T:
        """The first rank's value."""
        values = [value]
        if self.group:
            dist.broadcast_object_list(values, group=self.group, group_src=0)
        return values[0]

    def all(self, value: T) -> list[T]:
        """Each rank's value, in rank order."""
        values = [value] * self.count
        if self.group:
            dist.all_gather_object(values, value, group=self.group)
        return values

    def note(self, text: str) -> None:
        if self.rank == 0:
            note(text)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _share(files: Mapping[str, Written], ranks: _Ranks) -> dict[str, Written]:
    """The files that fall to this rank, large ones dealt out first."""
    names = sorted(files, key=lambda name: (-files[name].bytes, name))
    return {name: files[name] for name in names[ranks.rank :: ranks.count]}


def _fault(path: Path, files: Mapping[str, Written]) -> str:
    """The first of the files that is not as it was written, in words."""
    for name, written in files.items():
        try:
            if (path / name).stat().st_size != written.bytes:
                return f"{name} has been cut or has grown"
            if file_digest(path / name) != written.sha256:
                return f"{name} is damaged"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return ""


def _found(path: Path, sealed: Sealed, ranks: _Ranks) -> Found:
    history = read_history(path.parent, sealed.history)
    if any(ranks.all(history is None)):
        ranks.note(f"{path.parent}: the history up to {path.name} is missing or damaged; history.json begins after it.")
        history = None
    index = Index.model_validate_json((path / INDEX).read_bytes())
    return Found(path, Progress.model_validate(sealed.progress | (history or {})), sealed.extras, index)


def _misfit(index: Index, wanted: Mapping[str, Piece]) -> str:
    for name, each in wanted.items():
        entry = index.tensors.get(name)
        if entry is None:
            return f"{name} is not in this checkpoint"
        if tuple(entry.shape) != each.shape:
            return f"{name} is {tuple(entry.shape)} in this checkpoint, and {each.shape} is wanted"
    return ""


def _fill(found: Found, wanted: dict[str, Piece]) -> None:
    """Read the pieces. Each rank reads on its own, since nothing has to be agreed on."""
    try:
        state_dict_loader.load(
            wanted,
            storage_reader=ShardReader(found.path, found.index, wanted),
            planner=PieceLoadPlanner(),
            no_dist=True,
        )
    except CheckpointException as error:
        cause, _ = error.failures[0]
        if isinstance(cause, (OSError, SafetensorError, ValueError)):
            raise InputError(f"it cannot be read: {cause}.", where=str(found.path)) from error
        raise
