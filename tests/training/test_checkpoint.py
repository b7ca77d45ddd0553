"""Checkpoints on disk: whole or passed over, equal bytes for equal states, the newest kept."""

from pathlib import Path

import pytest
import torch

from megalith.model import GPT, initialise
from megalith.recipe import ModelConfig, TrainConfig
from megalith.training import checkpoint
from megalith.training.checkpoint import Progress
from megalith.training.optimizer import load_optimizer_state, make_optimizer, optimizer_state, update

CONFIG = ModelConfig(num_layers=1, hidden_size=8, num_heads=2, vocab_size=20, sequence_length=4)


def trained(steps: int) -> tuple[GPT, torch.optim.AdamW]:
    model = GPT(CONFIG)
    initialise(model, 0)
    optimizer = make_optimizer(model, TrainConfig(tokens=100))
    for step in range(steps):
        tokens = torch.arange(4).unsqueeze(0) + step
        model.loss(tokens, tokens).backward()
        update(optimizer, 0.01)
        optimizer.zero_grad()
    return model, optimizer


def save(directory: Path, step: int, run: str = "run") -> Path:
    model, optimizer = trained(step)
    progress = Progress(run=run, step=step, steps=[{"step": 1, "loss": 0.1 + 0.2}])
    return checkpoint.save(directory, progress, model.state_dict(), optimizer_state(model, optimizer))


def test_what_is_loaded_is_what_was_saved_to_the_bit(tmp_path: Path) -> None:
    save(tmp_path, 2)
    found = checkpoint.newest(tmp_path, "run")
    assert found is not None
    assert found.progress.steps[0]["loss"] == 0.1 + 0.2
    model, optimizer = trained(2)
    other = GPT(CONFIG)
    other.load_state_dict(found.model)
    other_optimizer = make_optimizer(other, TrainConfig(tokens=100))
    load_optimizer_state(other, other_optimizer, found.optimizer)
    for each, its_optimizer in ((model, optimizer), (other, other_optimizer)):
        tokens = torch.tensor([[5, 6, 7, 8]])
        each.loss(tokens, tokens).backward()
        update(its_optimizer, 0.01)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())


def test_equal_states_give_equal_bytes(tmp_path: Path) -> None:
    first, second = save(tmp_path / "a", 3), save(tmp_path / "b", 3)
    assert sorted(path.name for path in first.iterdir()) == ["model.safetensors", "optimizer.safetensors", "state.json"]
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    tmp_path: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 1)
    file = save(tmp_path, 2) / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :])
    found = checkpoint.newest(tmp_path, "run")
    assert found is not None
    assert found.progress.step == 1
    assert "damaged" in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_not_taken(tmp_path: Path) -> None:
    save(tmp_path, 1, run="another")
    assert checkpoint.newest(tmp_path, "run") is None


def test_pruning_keeps_the_newest_and_sweeps_up_a_killed_save(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step)
    (tmp_path / "step-00000004.unfinished").mkdir()
    assert checkpoint.newest(tmp_path, "run") is not None
    checkpoint.prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_norms_and_biases_are_not_decayed() -> None:
    model, optimizer = trained(1)
    decayed = {id(parameter) for parameter in optimizer.param_groups[0]["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert names == {name for name, _ in model.named_parameters() if name.endswith("weight") and "norm" not in name}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
