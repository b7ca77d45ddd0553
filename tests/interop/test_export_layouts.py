"""A checkpoint still in shards, from tensor 2 × pipeline 2 × data 2 with ZeRO-3, goes out as one process's does."""

import dataclasses
import json
import weakref
from pathlib import Path

import pytest
import torch

from megalith.errors import InputError
from megalith.interop import exporting
from megalith.interop.checkpoint import open_checkpoint
from megalith.interop.exporting import export_model
from megalith.parallel import Mesh, build_mesh, parallelize
from megalith.recipe import ModelConfig
from megalith.recipe.machine import ParallelConfig
from megalith.training.checkpoint import Progress, Saver, State
from tests.inference.models import VOCAB_SIZE, write_model
from tests.parallel.processes import start, wait

CONFIG = ModelConfig(
    num_layers=4, hidden_size=16, num_heads=4, num_kv_heads=2, vocab_size=VOCAB_SIZE, positions="rotary",
    norm="rmsnorm", activation="swiglu", bias=False, sequence_length=32,
)  # fmt: skip
PARALLEL = ParallelConfig(tensor=2, pipeline=2, data=2, zero=3)


def save(rank: int, directory: str, parallel: ParallelConfig) -> None:
    """Save the first weights of this layout."""
    ranks = build_mesh(Mesh(rank, parallel.tensor * parallel.pipeline * parallel.data), parallel)
    model = parallelize(CONFIG, parallel, ranks, dtype=torch.float32, seed=5)
    weights = {master.name: master.as_dtensor(master.value) for master in model.masters}
    saver = Saver(Path(directory))
    saver.save(State(Progress(run="one", step=3), weights, {}, {}), keep=1)
    saver.wait()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs with a checkpoint each: of eight ranks and of one."""
    found = []
    for world, parallel in ((8, PARALLEL), (1, ParallelConfig(tensor=1, pipeline=1, data=1))):
        home = tmp_path_factory.mktemp(f"of-{world}") / "run" / "train"
        write_model(home / "model")  # its shape is replaced, its tokenizer stays
        (home / "model" / "model.safetensors").unlink()
        (home / "model" / "config.json").write_text(json.dumps(CONFIG.model_dump(mode="json")))
        (home / "checkpoints").mkdir()
        wait(start(world, str(tmp_path_factory.mktemp("store")), save, str(home / "checkpoints"), parallel))
        found.append(home)
    return found[0], found[1]


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_every_byte_is_that_of_one_process(runs: tuple[Path, Path], to: str, tmp_path: Path) -> None:
    if to == "gguf":
        pytest.importorskip("gguf", reason="GGUF is written by the package gguf")
    many, one = runs
    assert len(list((many / "checkpoints" / "step-00000003").glob("shard-*.safetensors"))) == 8
    folders = [
        export_model(home / "checkpoints" / "step-00000003", tmp_path / name, to).path  # type: ignore[arg-type]
        for name, home in (("many", many), ("one", one))
    ]
    names = sorted(path.name for path in folders[0].iterdir() if path.name not in ("manifest.json", "README.md"))
    assert len(names) == (5 if to == "hf" else 1)
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def test_a_run_is_named_as_a_whole_or_by_a_step(runs: tuple[Path, Path]) -> None:
    whole, step = open_checkpoint(runs[0]), open_checkpoint(runs[0] / "checkpoints" / "step-00000003")
    assert whole.digest == step.digest
    assert (whole.step, whole.name) == (3, "run")


def test_a_damaged_shard_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    step = runs[0] / "checkpoints" / "step-00000003"
    shard = step / "shard-00000.safetensors"
    content = shard.read_bytes()
    try:
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(InputError, match=r"shard-00000\.safetensors is damaged"):
            export_model(step, tmp_path / "out", "hf")
    finally:
        shard.write_bytes(content)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_no_more_than_one_tensor_of_theirs_is_held_at_a_time(
    runs: tuple[Path, Path], to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if to == "gguf":
        pytest.importorskip("gguf", reason="GGUF is written by the package gguf")
    model = open_checkpoint(runs[0])
    held: list[weakref.ref[torch.Tensor]] = []
    most = 0

    def tensor(name: str) -> torch.Tensor:
        nonlocal most
        made = model.tensor(name)
        held.append(weakref.ref(made))
        most = max(most, sum(each() is not None for each in held))
        return made

    monkeypatch.setattr(exporting, "open_checkpoint", lambda path: dataclasses.replace(model, tensor=tensor))
    export_model(runs[0], tmp_path / "out", to)  # type: ignore[arg-type]
    assert len(held) > 30
    assert most <= 2  # the next is read before the one before it is let go of
