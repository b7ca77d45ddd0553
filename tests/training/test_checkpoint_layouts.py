"""Checkpoints know no layout: what any mesh saved, any other loads, and the consolidated file is one and the same.

Four processes play all layouts in turn. What a rank should hold is said by torch (`distribute_tensor`, `fully_shard`)
and compared to the bit.
"""

import errno
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard

from megalith.errors import InputError, ResourceError
from megalith.parallel.master_weights import block
from megalith.training.checkpoint import Progress, Saver, State, consolidate, load, newest
from megalith.training.checkpoint.shares import Place, deal
from tests.parallel.processes import start, wait

RANKS = 4
TENSOR_CUTS = {"embedding": 0, "query": 1, "bias": 0, "rows": 0}
"""The dimension that tensor parallelism cuts; the others it replicates."""
STAGES = (("embedding", "query", "scale"), ("embedding", "bias", "rows", "norm"))
"""The names on each of two pipeline stages: both hold the tied embedding."""

Tensors = dict[str, Tensor]


def full() -> Tensors:
    """The logical tensors. No size divides by 4, and 4 ranks cut `rows` into 1, 1, 1 and nothing."""
    torch.manual_seed(0)
    return {
        "embedding": torch.randn(10, 6),
        "query": torch.randn(7, 9),
        "bias": torch.randn(5),
        "rows": torch.randn(3, 2, dtype=torch.float64),
        "norm": torch.randn(6).to(torch.bfloat16),
        "scale": torch.tensor(0.1),
    }


@dataclass(frozen=True)
class Layout:
    """Which ranks take part, and what each of them makes of the logical tensors."""

    ranks: tuple[int, ...]
    place: Callable[[Tensors], Tensors]


def tensor_parallel(mesh: DeviceMesh) -> Callable[[Tensors], Tensors]:
    def place(tensors: Tensors) -> Tensors:
        return {
            name: distribute_tensor(each, mesh, [Shard(TENSOR_CUTS[name]) if name in TENSOR_CUTS else Replicate()])
            for name, each in tensors.items()
        }

    return place


def sharded(mesh: DeviceMesh, before: Callable[[Tensors], Tensors] = dict) -> Callable[[Tensors], Tensors]:
    """As FSDP2 leaves them; it takes no scalar."""

    def place(tensors: Tensors) -> Tensors:
        placed = before(tensors)
        module = nn.Module()
        for name, each in placed.items():
            if each.ndim:
                module.register_parameter(name, nn.Parameter(each))
        fully_shard(module, mesh=mesh)
        return placed | dict(module.named_parameters())

    return place


def stage(index: int, before: Callable[[Tensors], Tensors] = dict) -> Callable[[Tensors], Tensors]:
    return lambda tensors: before({name: tensors[name] for name in STAGES[index]})


def layouts(rank: int) -> dict[str, Layout]:
    """All of them; every rank makes every mesh."""
    pair, four = DeviceMesh("cpu", [0, 1]), DeviceMesh("cpu", range(RANKS))
    two_by_two = DeviceMesh("cpu", [[0, 1], [2, 3]], mesh_dim_names=("data", "tensor"))
    halves = DeviceMesh("cpu", [0, 1]), DeviceMesh("cpu", [2, 3])
    everyone = tuple(range(RANKS))
    return {
        "one process": Layout((0,), dict),
        "data 2": Layout((0, 1), dict),
        "tensor 2": Layout((0, 1), tensor_parallel(pair)),
        "tensor 4": Layout(everyone, tensor_parallel(four)),
        "pipeline 2": Layout((0, 1), stage(rank % 2)),
        "ZeRO 2": Layout((0, 1), sharded(pair)),
        "ZeRO 4": Layout(everyone, sharded(four)),
        "ZeRO 2, replicated": Layout(everyone, sharded(two_by_two)),
        "tensor 2, ZeRO 2": Layout(everyone, sharded(two_by_two["data"], tensor_parallel(two_by_two["tensor"]))),
        "pipeline 2, tensor 2": Layout(everyone, stage(rank // 2, tensor_parallel(halves[rank // 2]))),
    }


def state_of(layout: Layout, tensors: Tensors) -> State:
    model = layout.place(tensors)
    moments = layout.place({name: each.float() * 2 for name, each in tensors.items()})
    optimizer = {f"{name}.exp_avg": each for name, each in moments.items()}
    return State(Progress(run="run", step=1, tokens=64), model, optimizer, {"optimizer_steps": 7})


def local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def on_each_rank(rank: int, directory: Path) -> None:
    for job in (any_to_any, one_rank_out_of_disk, one_rank_sees_damage, one_rank_wants_too_much):
        (directory / job.__name__).mkdir(exist_ok=True)
        job(rank, directory / job.__name__)
        dist.barrier()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the files of four processes, after their own assertions."""
    directory = tmp_path_factory.mktemp("played")
    wait(start(RANKS, str(directory), on_each_rank, directory))
    return directory


def any_to_any(rank: int, directory: Path) -> None:
    known = layouts(rank)
    groups = {ranks: dist.new_group(ranks) for ranks in sorted({layout.ranks for layout in known.values()})}
    for name, layout in known.items():
        if rank in layout.ranks:
            saver = Saver(directory / name, groups[layout.ranks])
            saver.save(state_of(layout, full()), keep=1)
            saver.wait()
            (directory / f"{name}-{rank}.staged").write_text(str(saver.staged_bytes))
    dist.barrier()
    for source, target in itertools.product(known, known):
        layout = known[target]
        if rank not in layout.ranks:
            continue
        group = groups[layout.ranks]
        found = newest(directory / source, "run", group)
        assert found is not None, source
        assert (found.progress.tokens, found.extras) == (64, {"optimizer_steps": 7})
        wanted = state_of(layout, full())
        filled = state_of(layout, {name: torch.full_like(each, -1) for name, each in full().items()})
        load(found, filled.model, filled.optimizer, group)
        for got, want in ((filled.model, wanted.model), (filled.optimizer, wanted.optimizer)):
            for name, each in want.items():
                assert torch.equal(local(got[name]), local(each)), f"{name}, from {source} to {target}, rank {rank}"
    if rank == 0:
        for name in known:
            found = newest(directory / name, "run")
            assert found is not None
            consolidate(found, directory / f"{name}.safetensors")


def test_what_any_layout_saved_any_other_loads_to_the_bit(played: Path) -> None:
    files = list((played / "any_to_any").glob("*.safetensors"))
    assert len(files) == len({path.read_bytes() for path in files}) + 9 == 10
    assert all(torch.equal(each, full()[name]) for name, each in load_file(files[0]).items())


def test_every_element_is_written_once(played: Path) -> None:
    """Replicas, data-parallel copies and the tied embedding of two stages add nothing to the size."""
    elements = 8 + sum(each.nbytes + 4 * each.numel() for each in full().values() if each.ndim)
    for directory in (played / "any_to_any").iterdir():
        if directory.is_dir():
            shards = [load_file(path) for path in directory.glob("*/shard-*.safetensors")]
            assert sum(each.nbytes for shard in shards for each in shard.values()) == elements, directory.name
            assert all(each.numel() for shard in shards for each in shard.values()), directory.name


def test_each_rank_stages_what_it_writes_and_replicas_a_share_each(played: Path) -> None:
    """Each kept a copy of all that it held once: as many copies of the model as there are replicas."""
    for directory in (played / "any_to_any").iterdir():
        if not directory.is_dir():
            continue
        wrote = {
            int(path.stem.removeprefix("shard-")): sum(each.nbytes for each in load_file(path).values())
            for path in directory.glob("*/shard-*.safetensors")
        }
        staged = {
            int(path.stem.rpartition("-")[2]): int(path.read_text())
            for path in directory.parent.glob(f"{directory.name}-?.staged")
        }
        assert {rank: count for rank, count in staged.items() if count} == wrote, directory.name
        if directory.name == "data 2":
            largest = max(each.nbytes for each in full().values())
            assert max(staged.values()) <= sum(staged.values()) / 2 + largest


def test_pieces_are_dealt_to_those_who_hold_them_and_have_the_least() -> None:
    first: dict[Place, int] = {("a", (0,)): 8, ("b", (0,)): 6, ("c", (0,)): 5, ("d", (0,)): 2}
    second = {place: size for place, size in first.items() if place[0] != "d"} | {("d", (4,)): 20}
    assert deal([first, second]) == [{"a", "b", "c", "d"}, {"d"}]
    assert deal([first, first]) == [{"a", "d"}, {"b", "c"}]


def everywhere(step: int) -> State:
    """A tensor cut over all ranks."""
    rows = distribute_tensor(torch.full((RANKS, 2), float(step)), DeviceMesh("cpu", range(RANKS)), [Shard(0)])
    return State(Progress(run="run", step=step), {"rows": rows}, {})


def one_rank_out_of_disk(rank: int, directory: Path) -> None:
    saver = Saver(directory)
    saver.save(everywhere(1), keep=1)
    saver.wait()
    fsync = os.fsync
    if rank == 2:
        os.fsync = full_disk
    saver.save(everywhere(2), keep=1)
    with pytest.raises(ResourceError, match="disk is full"):
        saver.wait()
    os.fsync = fsync
    dist.barrier()
    assert not list(directory.glob("*.unfinished"))
    found = newest(directory, "run", dist.group.WORLD)
    assert found is not None and found.progress.step == 1
    saver.save(everywhere(3), keep=1)
    saver.wait()


def full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_one_rank_out_of_disk_is_said_by_all_and_the_next_save_stands(played: Path) -> None:
    assert sorted(path.name for path in (played / "one_rank_out_of_disk").glob("step-*")) == ["step-00000003"]


def one_rank_sees_damage(rank: int, directory: Path) -> None:
    saver = Saver(directory)
    for step in (1, 2):
        saver.save(everywhere(step), keep=2)
    saver.wait()
    if rank == 1:  # each rank reads one shard or the index: all must hear of it
        file = directory / "step-00000002" / "shard-00003.safetensors"
        file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    dist.barrier()
    found = newest(directory, "run", dist.group.WORLD)
    assert found is not None
    (directory / f"rank-{rank}").write_text(str(found.progress.step))


def test_damage_that_one_rank_sees_turns_all_to_the_checkpoint_before(played: Path) -> None:
    answers = [path.read_text() for path in (played / "one_rank_sees_damage").glob("rank-*")]
    assert answers == ["1"] * RANKS


def one_rank_wants_too_much(rank: int, directory: Path) -> None:
    saver, state = Saver(directory), everywhere(1)
    saver.save(state, keep=1)
    saver.wait()
    found = newest(directory, "run", dist.group.WORLD)
    assert found is not None
    try:
        load(found, {"columns": torch.zeros(1)} if rank == 3 else state.model, {}, dist.group.WORLD)
    except InputError as error:
        (directory / f"rank-{rank}").write_text(str(error))


def test_a_name_that_one_rank_misses_is_said_by_all(played: Path) -> None:
    said = [path.read_text() for path in (played / "one_rank_wants_too_much").glob("rank-*")]
    assert len(said) == RANKS
    assert all("model.columns is not in this checkpoint" in each for each in said)


@pytest.mark.parametrize(("tensor", "data"), [(2, 2), (2, 4), (3, 2), (4, 3), (1, 5), (5, 1)])
def test_rows_cut_by_tensor_parallelism_and_then_by_fsdp_lie_where_chunking_twice_puts_them(
    tensor: int, data: int
) -> None:
    placements = [_StridedShard(0, split_factor=tensor), Shard(0)]
    for rows in (1, 2, 7, 9, 16, 24, 50257):
        for t, part in enumerate(cut(torch.arange(rows), tensor)):
            for d, want in enumerate(cut(part, data)):
                found = block((rows,), (data, tensor), (d, t), placements)
                assert found is not None
                (start,), (size,) = found
                assert torch.equal(torch.arange(rows)[start : start + size], want)


def cut(rows: Tensor, parts: int) -> list[Tensor]:
    """torch.chunk, with the empty ones that it leaves out."""
    chunks = list(rows.chunk(parts)) if len(rows) else []
    return chunks + [rows[:0]] * (parts - len(chunks))


def test_a_placement_that_is_no_block_is_refused() -> None:
    assert block((8,), (2,), (0,), [_StridedShard(0, split_factor=2)]) is None
    assert block((8,), (2,), (0,), [Partial()]) is None
