"""Checkpoints of one process: whole or passed over, equal bytes for equal states, written behind training's back."""

import errno
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from megalith.errors import InputError, ResourceError
from megalith.training.checkpoint import Found, Progress, Saver, State, consolidate, load, newest
from megalith.training.checkpoint.storage import ShardWriter
from tests.training import killed

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # pytest undoes our own filter

RUN = "run"


def tensors(step: int) -> dict[str, Tensor]:
    torch.manual_seed(step)
    return {
        "matrix": torch.randn(6, 5),
        "transposed": torch.randn(5, 3).T,
        "half": torch.randn(7).to(torch.bfloat16),
        "double": torch.randn(2, 1, 3, dtype=torch.float64),
        "counts": torch.arange(3),
        "scalar": torch.tensor(step / 3),
        "empty": torch.zeros(0, 4),
    }


def state(step: int, run: str = RUN) -> State:
    model = tensors(step)
    steps: list[dict[str, Any]] = [{"step": each, "loss": 0.1 + 0.2} for each in range(1, step + 1)]
    progress = Progress(run=run, step=step, tokens=64 * step, steps=steps, validation=[{"loss": None}])
    return State(progress, model, {"matrix.exp_avg": model["matrix"] ** 2}, {"optimizer_steps": step})


def save(directory: Path, *steps: int, keep: int = 9) -> None:
    saver = Saver(directory)
    for step in steps:
        saver.save(state(step), keep)
    saver.wait()


def found_in(directory: Path) -> Found:
    found = newest(directory, RUN)
    assert found is not None
    return found


def assert_holds(found: Found, step: int) -> None:
    want = state(step)
    model = {name: torch.full_like(each, 7) for name, each in want.model.items()}
    optimizer = {name: torch.full_like(each, 7) for name, each in want.optimizer.items()}
    load(found, model, optimizer)
    assert all(torch.equal(model[name], each) for name, each in want.model.items())
    assert all(torch.equal(optimizer[name], each) for name, each in want.optimizer.items())
    assert found.progress == want.progress
    assert found.extras == want.extras


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_is_loaded_is_what_was_saved_to_the_bit(tmp_path: Path) -> None:
    save(tmp_path, 2)
    assert_holds(found_in(tmp_path), 2)


def test_a_saver_that_takes_up_a_run_adds_to_its_history_without_a_seam(tmp_path: Path) -> None:
    save(tmp_path / "a", 2, 3, 5)
    save(tmp_path / "b", 2, 4)
    save(tmp_path / "b", 3, 5)  # went back to 2, say, because 4 was damaged
    for name in ("steps.jsonl", "validation.jsonl", "latest", "step-00000005/state.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "steps.jsonl").read_text().count("\n") == 5
    assert "loss" not in (tmp_path / "a" / "step-00000005/state.json").read_text()
    for step in (2, 3, 5):
        (tmp_path / "b" / "latest").write_text(f"step-{step:08d}\n")
        assert_holds(found_in(tmp_path / "b"), step)


def test_equal_states_give_equal_bytes(tmp_path: Path) -> None:
    save(tmp_path / "a", 3)
    save(tmp_path / "b", 3)
    assert names(tmp_path / "a" / "step-00000003") == ["index.json", "shard-00000.safetensors", "state.json"]
    for path in (tmp_path / "a").rglob("*.*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_the_model_alone_is_the_file_that_safetensors_itself_writes(tmp_path: Path) -> None:
    save(tmp_path, 3)
    consolidate(found_in(tmp_path), tmp_path / "model.safetensors")
    whole = {name: each.contiguous() for name, each in tensors(3).items()}
    save_file(whole, tmp_path / "oracle.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "oracle.safetensors").read_bytes()
    assert set(load_file(tmp_path / "model.safetensors")) == set(whole)


def test_nothing_is_pickled_or_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a pickle")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(torch, "save", refuse)
    save(tmp_path, 1)
    assert_holds(found_in(tmp_path), 1)
    for path in tmp_path.rglob("*.*"):
        assert path.suffix in ("", ".json", ".jsonl", ".safetensors") or path.is_dir()


DAMAGES = {
    "missing": lambda content: None,
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "cut at the end": lambda content: content[:-2],
    "longer": lambda content: content + b"\n}",
    **{
        f"changed at {share:.0%}": lambda content, share=share: changed(content, int(share * (len(content) - 1)))
        for share in (0, 0.1, 0.3, 0.5, 0.8, 1)
    },
    "not text": lambda content: b"\x80\x04\xff" * 9,
}


def changed(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("name", ["shard-00000.safetensors", "index.json", "state.json"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 1, 2)
    file = tmp_path / "step-00000002" / name
    content = file.read_bytes()
    for what, damage in DAMAGES.items():
        file.unlink()
        if (damaged := damage(content)) is not None:
            file.write_bytes(damaged)
        assert_holds(found_in(tmp_path), 1)
        said = capsys.readouterr().err
        assert "step-00000002: this checkpoint is passed over" in said, what
        assert name in said
        file.write_bytes(content)
    assert_holds(found_in(tmp_path), 2)


def test_a_changed_byte_anywhere_in_the_state_is_seen(tmp_path: Path) -> None:
    save(tmp_path, 1)
    file = tmp_path / "step-00000001" / "state.json"
    content = file.read_bytes()
    for place in range(0, len(content), 3):
        file.write_bytes(changed(content, place))
        assert newest(tmp_path, RUN) is None, content[place - 9 : place + 9]


def test_a_damaged_latest_is_no_matter(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for content in (b"", b"\xff\xfe", b"step-00000009\n", b"../elsewhere\n"):
        (tmp_path / "latest").write_bytes(content)
        assert_holds(found_in(tmp_path), 2)
    (tmp_path / "latest").unlink()
    assert_holds(found_in(tmp_path), 2)


def test_a_person_can_take_the_run_back_by_naming_an_earlier_checkpoint_as_latest(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    (tmp_path / "latest").write_text("step-00000002\n")
    assert_holds(found_in(tmp_path), 2)
    (tmp_path / "step-00000002" / "index.json").unlink()
    assert_holds(found_in(tmp_path), 1)
    (tmp_path / "step-00000001" / "index.json").unlink()
    assert_holds(found_in(tmp_path), 3)


def test_a_damaged_history_costs_the_history_and_not_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 2)
    file = tmp_path / "steps.jsonl"
    file.write_bytes(changed(file.read_bytes(), 3))
    found = found_in(tmp_path)
    assert (found.progress.step, found.progress.steps, found.progress.validation) == (2, [], [])
    assert "history" in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert newest(tmp_path / "none", RUN) is None
    saver = Saver(tmp_path)
    saver.save(state(1, run="another"), keep=1)
    saver.wait()
    assert newest(tmp_path, RUN) is None
    assert "of another run" in capsys.readouterr().err


def test_the_newest_are_kept_and_what_was_above_them_goes(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4, keep=2)
    (tmp_path / "step-00000004.unfinished").mkdir()
    (tmp_path / "step-00000009").mkdir()
    (tmp_path / "of-another").mkdir()
    assert_holds(found_in(tmp_path), 4)
    save(tmp_path, 5, keep=3)
    assert names(tmp_path) == [
        "latest", "of-another", "step-00000003", "step-00000004", "step-00000005", "steps.jsonl", "validation.jsonl"
    ]  # fmt: skip


def test_saving_goes_on_behind_training_with_the_state_of_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = threading.Event()
    begin = ShardWriter.set_up_storage_writer
    monkeypatch.setattr(ShardWriter, "set_up_storage_writer", lambda *given: (disk.wait(10), begin(*given)))
    live = state(1)
    saver = Saver(tmp_path)
    saver.save(live, keep=1)
    assert newest(tmp_path, RUN) is None
    for each in (*live.model.values(), *live.optimizer.values()):
        each.zero_()
    live.progress.steps.append({"step": 2})
    live.progress.step = 2
    disk.set()
    saver.wait()
    assert_holds(found_in(tmp_path), 1)


def test_a_full_disk_is_said_at_the_next_call_and_leaves_the_checkpoints_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saver = Saver(tmp_path)
    saver.save(state(1), keep=1)
    saver.wait()
    standing = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    fsync, flushed = os.fsync, 0

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_after(count: int) -> None:
        nonlocal flushed
        flushed = 0

        def flush(handle: int) -> None:
            nonlocal flushed
            flushed += 1
            if flushed > count:
                full(handle)
            fsync(handle)

        monkeypatch.setattr(os, "fsync", flush)

    for count in range(6):  # in the shard, the index and its directory, the history twice, the state
        full_after(count)
        saver.save(state(2), keep=1)
        with pytest.raises(ResourceError, match="disk is full") as raised:
            saver.save(state(3), keep=1) if count % 2 else saver.wait()
        assert raised.value.mend
        assert all(path.read_bytes().startswith(content) for path, content in standing.items())
        assert not list(tmp_path.glob("*.unfinished"))
        assert_holds(found_in(tmp_path), 1)
    monkeypatch.undo()
    saver.save(state(2), keep=1)
    saver.wait()
    assert_holds(found_in(tmp_path), 2)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"absent": torch.zeros(2)}, r"model\.absent is not in this checkpoint"),
        ({"matrix": torch.zeros(6, 6)}, r"model\.matrix is \(6, 5\) in this checkpoint, and \(6, 6\) is wanted"),
    ],
)
def test_a_model_that_the_checkpoint_does_not_fit_is_refused_by_name(
    tmp_path: Path, model: dict[str, Tensor], said: str
) -> None:
    save(tmp_path, 1)
    with pytest.raises(InputError, match=said):
        load(found_in(tmp_path), model, {})


def test_an_index_that_leaves_a_gap_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 1)
    found = found_in(tmp_path)
    found.index.tensors["model.matrix"].chunks.clear()
    with pytest.raises(InputError, match="not there in full"):
        load(found, {"matrix": torch.zeros(6, 5)}, {})


def test_what_a_killed_process_leaves_is_whole_whenever_it_was_killed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.killed", str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["at operations"] == sorted(found["at operations"])
    assert set(found["at operations"]) == {1, *killed.STEPS}
    assert len(found["at operations"]) > 40
