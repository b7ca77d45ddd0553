"""The mirror of a run's checkpoints (`train.mirror`): before the first rank starts, in training, and at the end."""

import shutil

from megalith.console import note
from megalith.training.checkpoint.files import standing
from megalith.training.checkpoint.mirror import LINKS, Mirror, Mirroring
from megalith.training.task import TrainTask


def mirroring(address: str | None) -> Mirroring | None:
    """The copier of checkpoints that stand; None without a mirror."""
    return None if address is None else Mirroring(Mirror(address))


def take_up_mirror(task: TrainTask) -> None:
    """Fetch the newest checkpoint from the mirror where none stands here, before any rank looks for one.

    Raises ResourceError where the mirror cannot be read: a run that began anew would lose what it has there.
    """
    shutil.rmtree(task.checkpoints / LINKS, ignore_errors=True)  # of a copy that ended with its process
    address = task.recipe.train.mirror
    if address is None or standing(task.checkpoints):
        return
    name = Mirror(address).restore(task.checkpoints, task.run)
    if name is not None:
        note(f"{name} is taken from the mirror, since no checkpoint stands here.")


def mirror_last(task: TrainTask) -> None:
    """Copy the last checkpoint of a run that has ended, unless it is there. Raises ResourceError where it cannot be."""
    address = task.recipe.train.mirror
    if address is None:
        return
    shutil.rmtree(task.checkpoints / LINKS, ignore_errors=True)
    newest = str(standing(task.checkpoints)[0])
    mirror = Mirror(address)
    if newest not in mirror.standing():
        mirror.save(task.checkpoints / newest, [str(name) for name in standing(task.checkpoints)])
