"""A run's checkpoints in a store: copied there as they stand, and taken from there when their own disk is gone.

`state.json` comes last, which names the digests of all other files: a checkpoint without it does not exist, and it goes
first when one is removed. The history files are written before it, since each checkpoint says how much of them is its
own.
"""

import os
import re
import shutil
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from megalith.artifacts import Output, sync
from megalith.artifacts.checkpoints import STATE
from megalith.console import note
from megalith.errors import InputError, MegalithError
from megalith.storage import Store, fetch_bytes, fetch_file, join
from megalith.training.checkpoint.files import LATEST, UNFINISHED, write_whole
from megalith.training.checkpoint.state import HISTORY, Sealed, unseal

LINKS = ".mirroring"
STOP_SECONDS = 30.0
"""For the copy that is on its way when the run is asked to stop: half of what it has until it is killed."""
_NAME = re.compile(r"(step-\d{8,})/state\.json")


class Mirror:
    """The checkpoints of one run under an address."""

    def __init__(self, address: str) -> None:
        """Raises UnsupportedError for an address that cannot be written, InputError for a secret in it."""
        self._store = Store(address)
        self._store.refuse_reading_only()
        self._is_ours = False
        self._unknown: set[str] = set()

    def save(self, checkpoint: Path, kept: Collection[str]) -> None:
        """Copy a checkpoint that stands, then remove all of this run but it and those that are `kept` where it is.

        Raises ResourceError, and InputError where the address holds another run's checkpoints: they are never touched.
        """
        if not self._is_ours:
            own = unseal((checkpoint / STATE).read_bytes())
            assert own is not None
            self._refuse_another_run(own.progress["run"])
        for name in HISTORY:
            self._store.write(checkpoint.parent / f"{name}.jsonl", f"{name}.jsonl")
        names = sorted(file.name for file in checkpoint.iterdir() if file.name != STATE)
        for name in (*names, STATE):
            self._store.write(checkpoint / name, f"{checkpoint.name}/{name}")
        standing = [name for name in self.standing() if name not in self._unknown]
        later = [name for name in standing if _step(name) > _step(checkpoint.name)]  # of a future that was given up
        earlier = [name for name in standing if name not in later]
        for name in later:
            note(f"{join(self._store.address, name)} is removed: the run has gone back before it.")
        for name in (*later, *(name for name in earlier if name not in {checkpoint.name, *kept})):
            self._remove(name)

    def standing(self) -> list[str]:
        """The names of the whole checkpoints, newest first."""
        found = (_NAME.fullmatch(each.name) for each in self._store.objects())
        return sorted((each[1] for each in found if each), key=_step, reverse=True)

    def restore(self, directory: Path, run: str) -> str | None:
        """Put the newest whole checkpoint of this run into `directory`, and return its name; None where there is none.

        Damaged ones are passed over with a word to the user. Raises InputError where another run's stand there,
        ResourceError where the store cannot be read.
        """
        self._refuse_another_run(run)
        for name in self.standing():
            address = join(self._store.address, name)
            content = fetch_bytes(join(address, STATE))
            sealed = unseal(content) if content is not None else None
            if sealed is None or content is None:
                note(f"{address}: this checkpoint is passed over: {STATE} is damaged or of another version.")
                continue
            try:
                self._fetch(directory, name, sealed, content)
            except InputError as error:
                note(f"{address}: this checkpoint is passed over: {error.what}")
                continue
            return name
        return None

    def _refuse_another_run(self, run: str) -> None:
        """Raise InputError unless all checkpoints there are this run's; what cannot be read is left alone for good."""
        for name in self.standing():
            content = fetch_bytes(join(self._store.address, f"{name}/{STATE}"))
            sealed = unseal(content) if content is not None else None
            if sealed is None:
                self._unknown.add(name)
            elif sealed.progress["run"] != run:
                raise InputError(
                    f"{name} of another run is there, which the checkpoints of this one would replace.",
                    where=f"train.mirror: {self._store.address}",
                    mend="Use another address for this run, or remove what is there.",
                )
        self._is_ours = True

    def _fetch(self, directory: Path, name: str, sealed: Sealed, content: bytes) -> None:
        unfinished = directory / f"{name}{UNFINISHED}"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        for file, written in sealed.files.items():
            output = Output(path=file, bytes=written.bytes, sha256=written.sha256)
            fetch_file(join(self._store.address, f"{name}/{file}"), unfinished / file, output)
        write_whole(unfinished / STATE, content)
        for history in HISTORY:
            fetch_file(join(self._store.address, f"{history}.jsonl"), directory / f"{history}.jsonl")
        unfinished.rename(directory / name)
        sync(directory)
        write_whole(directory / LATEST, f"{name}\n".encode())

    def _remove(self, name: str) -> None:
        objects = [each.name for each in self._store.objects(name)]
        for file in sorted(objects, key=lambda file: file != STATE):
            self._store.remove(f"{name}/{file}")


class Mirroring:
    """Copies checkpoints as they stand, in a thread of its own: training never waits for a store.

    One is copied at a time; one that stands while another is on its way is left out, and the next is tried. A copy is
    made of links, so that the checkpoint may be removed meanwhile.
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._thread = ThreadPoolExecutor(1)
        self._copying: Future[None] | None = None

    def __call__(self, checkpoint: Path, kept: Collection[str]) -> None:
        """Begin to copy a checkpoint that stands, unless another is on its way."""
        if self._copying is not None and not self._copying.done():
            note(f"{checkpoint.name} is not mirrored: the one before it is still on its way.")
            return
        links = checkpoint.parent / LINKS / checkpoint.name
        shutil.rmtree(links.parent, ignore_errors=True)
        shutil.copytree(checkpoint, links, copy_function=_link)
        for name in HISTORY:
            shutil.copyfile(checkpoint.parent / f"{name}.jsonl", links.parent / f"{name}.jsonl")
        self._copying = self._thread.submit(self._copy, links, kept)

    def wait(self, seconds: float = STOP_SECONDS) -> None:
        """Wait for the copy that is on its way, but not for long."""
        if self._copying is not None:
            wait([self._copying], timeout=seconds)

    def _copy(self, links: Path, kept: Collection[str]) -> None:
        """Where the store fails, say so and go on: the checkpoint stands here."""
        try:
            self._mirror.save(links, kept)
        except (MegalithError, OSError) as error:
            note(f"{links.name} is not mirrored: {error} The run goes on, and the next checkpoint is tried.")
        finally:
            shutil.rmtree(links.parent, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _step(name: str) -> int:
    return int(name.removeprefix("step-"))
