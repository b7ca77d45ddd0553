"""A run keeps the kernels that it began with."""

import json
from pathlib import Path

import pytest

from megalith.kernels.choice import ALTERNATIVES
from megalith.training import task
from megalith.training.task import KERNELS, kernels_of_run

TORCH = dict.fromkeys(ALTERNATIVES, "torch")


def test_a_resumed_run_keeps_what_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels_of_run(tmp_path, 1) == TORCH
    monkeypatch.setattr(task, "choose", lambda threads: dict(ALTERNATIVES))  # another machine, or other threads
    assert kernels_of_run(tmp_path, 2) == TORCH


@pytest.mark.parametrize("damage", ["", "[1]", '{"fp32 gelu": 3}', json.dumps({"fp32 gelu": "of a later version"})])
def test_a_damaged_choice_is_made_anew_and_that_is_said(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / KERNELS).write_text(damage)
    assert kernels_of_run(tmp_path, 1) == TORCH
    assert "the kernels are chosen anew" in " ".join(capsys.readouterr().err.split())
    assert json.loads((tmp_path / "logs" / KERNELS).read_text()) == TORCH
