"""Which checkpoints are left: the newest, milestones, the best by validation, and the last before skipped steps."""

from pathlib import Path

import pytest
import torch

from megalith.training.checkpoint import Progress, Saver, State, last_sound
from megalith.training.checkpoint.files import standing

RUN = "run"
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # pytest undoes our own filter


def told(step: int, losses: dict[int, float], skipped: int = 0) -> State:
    """A state with validation losses by step, in a streak of so many skipped steps."""
    validation = [{"step": each, "loss": loss} for each, loss in losses.items() if each <= step]
    progress = Progress(run=RUN, step=step, validation=validation, skipped_in_a_row=skipped)
    return State(progress, {"matrix": torch.ones(step, 2)}, {})


def test_milestones_and_the_best_by_validation_stand_beside_the_newest(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    losses = {1: 3.0, 2: 1.0, 3: float("nan"), 4: 2.0, 5: 0.5, 6: 2.0, 7: 2.0}
    left = {}
    for step in losses:
        saver.save(told(step, losses), keep=1, milestones=(1, 4), best=True)
        saver.wait()
        left[step] = [name.step for name in standing(tmp_path)]
    assert left == {1: [1], 2: [2, 1], 3: [3, 2, 1], 4: [4, 2, 1], 5: [5, 4, 1], 6: [6, 5, 4, 1], 7: [7, 5, 4, 1]}


def test_a_streak_of_skipped_steps_never_prunes_the_checkpoint_before_it(tmp_path: Path) -> None:
    saver = Saver(tmp_path)
    left = {}
    for step, skipped in ((1, 0), (2, 0), (3, 1), (4, 9), (5, 19), (6, 0), (7, 0)):
        saver.save(told(step, {}, skipped), keep=2)
        saver.wait()
        left[step] = [name.step for name in standing(tmp_path)]
        assert last_sound(tmp_path) == (step if not skipped else 2)
    assert left == {1: [1], 2: [2, 1], 3: [3, 2], 4: [4, 3, 2], 5: [5, 4, 2], 6: [6, 5], 7: [7, 6]}
