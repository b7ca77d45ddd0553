"""Saving in the background: a copy is made while training waits; a thread writes it while training goes on.

Each rank copies what it will write and no more: of what several hold alike, its share.

The order that makes a kill at any moment harmless: shards, index and `state.json` are written and flushed in
`step-XXXXXXXX.unfinished`, which is then renamed; `latest` follows; only then do older checkpoints go.
"""

import shutil
import warnings
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import AsyncStager

from megalith.artifacts import sync
from megalith.artifacts.checkpoints import STATE
from megalith.errors import ResourceError
from megalith.system_limits import limit_reached
from megalith.training.checkpoint.files import LATEST, UNFINISHED, Name, Written, standing, write_whole
from megalith.training.checkpoint.pieces import Piece, SavePlanner, pieces
from megalith.training.checkpoint.shares import own_share
from megalith.training.checkpoint.state import (
    BESIDE,
    FORMAT,
    HISTORY,
    History,
    Sealed,
    State,
    is_sound,
    losses_by_step,
    seal,
)
from megalith.training.checkpoint.storage import ShardWriter

warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")


class Saver:
    """Writes a run's checkpoints into `directory`, one at a time, together with the other ranks of `group`.

    Every rank of the group makes one and calls it alike. `group` must be able to move CPU tensors (gloo), and nothing
    else may use it, since the background thread does; without one, a group of all ranks is made, or, where torch's
    process groups are not set up, this process saves alone.
    """

    def __init__(
        self,
        directory: Path,
        group: dist.ProcessGroup | None = None,
        *,
        stands: Callable[[Path, Collection[str]], None] | None = None,
    ) -> None:
        """`stands` is called, on the first rank, with each checkpoint that stands and the names of all that do."""
        self._directory = directory
        self.group = dist.new_group(backend="gloo") if group is None and dist.is_initialized() else group
        self._leads = self.group is None or dist.get_rank(self.group) == 0
        self._stager = _Copies()
        self._history = History(directory)
        self._share: frozenset[str] | None = None
        self._writing: Future[object] | None = None
        self._unfinished = directory
        self._stands = stands

    def save(self, state: State, keep: int, *, milestones: Collection[int] = (), best: bool = False) -> None:
        """Copy the state and begin to write it; afterwards, the newest `keep` checkpoints are left.

        So are those of the steps `milestones`, with `best` the one of the least validation loss, and the last one
        before a streak of steps that were skipped.

        All states must be of the same tensors: who writes which is settled at the first save.
        It waits for the save before. Raises ResourceError if that one could not be written (every rank does so),
        UnsupportedError for a placement that is not one block.
        """
        self.wait()
        name = Name(state.progress.step)
        self._unfinished = self._directory / f"{name}{UNFINISHED}"
        lines = self._history.pending(state.progress) if self._leads else {}
        empty = [name for name in BESIDE if not getattr(state.progress, name)]
        progress = state.progress.model_dump(exclude={*HISTORY, *empty})
        extras = dict(state.extras)
        wanted = _Wanted(keep, frozenset(milestones), losses_by_step(state.progress) if best else {})

        def commit(files: Mapping[str, Written]) -> None:
            history = self._history.write(lines)
            sealed = Sealed(format=FORMAT, progress=progress, history=history, extras=extras, files=dict(files))
            write_whole(self._unfinished / STATE, seal(sealed))
            self._put_in_place(name)
            kept = self._prune(name, wanted)
            if self._stands is not None:
                self._stands(self._directory / str(name), kept)

        held = pieces(state.model, state.optimizer)
        if self._share is None:
            self._share = own_share(held, self.group)
        future = state_dict_saver.async_save(
            {name: held[name] for name in held if name in self._share},
            storage_writer=ShardWriter(self._unfinished, commit),
            planner=SavePlanner(),
            process_group=self.group,
            async_stager=self._stager,
            no_dist=self.group is None,
        )
        assert isinstance(future, Future)  # our stager blocks
        self._writing = future

    @property
    def staged_bytes(self) -> int:
        """Bytes that this rank keeps for its copy."""
        return self._stager.bytes

    def forget_history(self) -> None:
        """Have the next save write the history files anew: the run has gone back."""
        self._history = History(self._directory)

    def wait(self) -> None:
        """Return when the last save is on the disk. Raises ResourceError if it could not be written."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            writing.result()
        except CheckpointException as error:
            if self._leads:
                shutil.rmtree(self._unfinished, ignore_errors=True)
            raise _explained(error, self._directory) from error

    def _put_in_place(self, name: Name) -> None:
        target = self._directory / str(name)
        if target.exists():  # damaged, or of another run: it stands until the new one does
            replaced = self._directory / str(name.replaced())
            shutil.rmtree(replaced, ignore_errors=True)
            target.rename(replaced)
        self._unfinished.rename(target)
        sync(self._directory)
        write_whole(self._directory / LATEST, f"{name}\n".encode())

    def _prune(self, newest: Name, wanted: "_Wanted") -> list[str]:
        """Leave the wanted checkpoints; later steps than the newest belong to a future that was given up."""
        names = standing(self._directory)
        kept = self._kept([name for name in names if name.step <= newest.step and not name.is_replaced], wanted)
        for path in self._directory.glob(f"*{UNFINISHED}"):  # left by a killed process, and by the line below
            shutil.rmtree(path)
        for path in self._directory.glob(".*.tmp"):
            path.unlink()
        for name in set(names).difference(kept):
            unfinished = self._directory / f"{name}{UNFINISHED}"
            (self._directory / str(name)).rename(unfinished)  # so that a kill leaves no half of a checkpoint
            shutil.rmtree(unfinished)
        return [str(name) for name in kept]

    def _kept(self, names: list[Name], wanted: "_Wanted") -> list[Name]:
        """The wanted of the checkpoints, which go newest first."""
        newest, earlier = names[: wanted.newest], names[wanted.newest :]
        kept = {*newest, *(name for name in earlier if name.step in wanted.milestones)}
        measured = [name for name in names if name.step in wanted.losses]
        if measured:
            kept.add(min(measured, key=lambda name: wanted.losses[name.step]))
        if not any(is_sound(self._directory / str(name)) for name in newest):
            kept.update([name for name in earlier if is_sound(self._directory / str(name))][:1])
        return [name for name in names if name in kept]


@dataclass(frozen=True)
class _Wanted:
    """Which checkpoints are to be left."""

    newest: int
    milestones: frozenset[int]
    losses: Mapping[int, float]
    """Validation losses by step, where the best one is kept."""


class _Copies(AsyncStager):
    """Copies pieces into memory of its own, which it keeps from one save to the next.

    What comes from a GPU goes into pinned memory, all of it at once, and is waited for once.
    """

    _synchronize_after_execute = False

    def __init__(self) -> None:
        self._memory: dict[str, Tensor] = {}

    @property
    def bytes(self) -> int:
        return sum(memory.nbytes for memory in self._memory.values())

    def stage(self, state_dict: dict[str, Piece]) -> dict[str, Piece]:
        copies, devices = {}, set()
        for name, each in state_dict.items():
            memory, on_gpu = self._memory.get(name), each.tensor.is_cuda
            if memory is None or memory.shape != each.tensor.shape or memory.dtype != each.tensor.dtype:
                memory = torch.empty(each.tensor.shape, dtype=each.tensor.dtype, device="cpu", pin_memory=on_gpu)
            copies[name] = Piece(memory.copy_(each.tensor, non_blocking=on_gpu), each.offsets, each.shape)
            if on_gpu:
                devices.add(each.tensor.device)
        for device in devices:
            torch.cuda.current_stream(device).synchronize()
        self._memory = {name: copy.tensor for name, copy in copies.items()}
        return copies

    def synchronize_staging(self) -> None:
        """`stage` has waited already."""

    def close(self) -> None:
        self._memory = {}


def _explained(error: CheckpointException, directory: Path) -> BaseException:
    """The error that stopped the writing: a limit of the machine in words, or the error itself."""
    causes = [cause for cause, _ in error.failures.values()]
    refused = next((cause for cause in causes if isinstance(cause, OSError)), None)
    if refused is None:
        return causes[0]
    limit = next(filter(None, map(limit_reached, causes)), None)
    return ResourceError(
        f"a checkpoint could not be written: {limit.what if limit else f'{refused}.'}",
        where=str(directory),
        mend=f"{limit.mend} The checkpoint before it stands." if limit else "The checkpoints before it stand.",
    )
