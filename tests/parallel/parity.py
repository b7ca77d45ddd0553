"""Five steps of each cell on as many ranks as it asks for, and how far they are from the oracle's.

In fp64 every number agrees to 1e-9, relatively. In fp32 and bf16 what is bounded are the first step's: the gradient of
layer l of L, all its parameters together, agrees to k·C^(L+1−l)·ε with C = 1.03 and k = 4 (2506.09280, theorem 5.3,
with the constants of Megatron-LM's tests), losses and norm to the bound of the embedding, l = 0. In fp32, where the
heads round as much as the layers do, k is 8. What follows a step of Adam is shown there and not bounded: Adam divides
what is nearly 0 by what is nearly 0. A bf16 cell is held against our own single process in bf16, the others against an
oracle of plain torch.
"""

import json
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from megalith.parallel import DistributedModel, Mesh, Optimizer, build_mesh, clip_factor, loss_weights, parallelize
from megalith.recipe import ModelConfig, Recipe, TrainConfig
from megalith.training.data import counts
from tests.parallel.cells import SEQUENCES, SHAPE, TRAINED, TYPES, Cell, sample_batch
from tests.parallel.oracle import CLIP, DECAY, RATE, SEED, STEPS, Outcome, whole_model_steps
from tests.parallel.processes import start, wait

FP64_BOUND = 1e-9
K, C = {"fp32": 8, "bf16": 4}, 1.03


@dataclass(frozen=True)
class Difference:
    """How far a cell is from the oracle, relatively; the largest over steps and parameters."""

    losses: float
    gradients: float
    norms: float
    parameters: float
    of_bound: float
    """The largest share of its bound that any number takes: the cell holds up to 1."""


def spread_steps(cell: Cell, ranks: Mesh, config: ModelConfig | None = None) -> Outcome:
    """The cell's steps of this rank's part, of its own model or another; the tensors of the outcome are whole, and on
    the first rank alone."""
    config = config or cell.model
    train = train_settings(cell.trained)
    model = parallelize(config, cell.parallel, ranks, dtype=TYPES[cell.precision], seed=SEED, z_loss=train.z_loss)
    optimizer = Optimizer(model.masters, train)
    share = range(ranks.data_index * cell.micro_batch, SEQUENCES, cell.micro_batch * ranks.data_size)
    losses, norms, gradients = [], [], {}
    for step in range(STEPS):
        batches = [
            sample_batch(config, step, first, cell.micro_batch, documents=train.document_mask) for first in share
        ]
        own = [sum(column) for column in zip(*map(counts, batches), strict=True)]
        valid = ranks.sum(*(own if ranks.is_first_reader else [0.0] * len(own)))
        valid += valid[: len(model.losses) - len(valid)]
        model.gradients.zero()
        sums = model.forward_backward(batches, loss_weights(valid, 1.0), [0] * len(batches))
        model.reduce_gradients()
        if step == 0:
            gradients = whole(model, [m.value.grad for m in model.masters])
        summed = ranks.sum(*sums.tolist())
        norm = model.gradient_norm()
        model.gradients.scale(clip_factor(norm, CLIP))
        optimizer.update(RATE)
        model.copy_master_weights()
        losses.append([each / count for each, count in zip(summed, valid, strict=True)])
        norms.append(norm)
    return Outcome(losses, norms, gradients, whole(model, [m.value for m in model.masters]))


def train_settings(trained: str = "") -> TrainConfig:
    """A train section with the oracle's settings, and those of TRAINED."""
    recipe = {"name": "x", "about": "x", "model": SHAPE, "tokenize": {"vocab_size": SHAPE["vocab_size"]}}
    train = {"tokens": 1000, "learning_rate": RATE, "weight_decay": DECAY, "clip_norm": CLIP, "precision": "fp32"}
    return Recipe.model_validate(recipe | {"train": train | TRAINED[trained]}).train


def whole(model: DistributedModel, pieces: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """The full tensors of all masters, gathered from every stage, on the first rank; elsewhere nothing.

    Copies (of a tied embedding, of replicated parameters, of data-parallel ranks) must be equal to the bit.
    """
    own = {}
    for master, piece in zip(model.masters, pieces, strict=True):
        assert piece is not None
        logical = master.as_dtensor(piece.detach())
        own[master.name] = logical.full_tensor() if isinstance(logical, DTensor) else logical.clone()
    if model.ranks.count == 1:
        return own
    gathered: list[Any] | None = [None] * model.ranks.count if model.ranks.rank == 0 else None
    dist.gather_object(own, gathered)
    found: dict[str, Tensor] = {}
    for part in gathered or []:
        for name, value in part.items():
            assert torch.equal(value, found.setdefault(name, value)), f"{name} differs between ranks"
    return found


def difference(found: Outcome, oracle: Outcome, precision: str) -> Difference:
    """Relative to the size of what is compared: a norm for tensors, the value for numbers."""
    losses = [
        max(abs(a / b - 1) for a, b in zip(x, y, strict=True)) for x, y in zip(found.losses, oracle.losses, strict=True)
    ]
    norms = [abs(a / b - 1) for a, b in zip(found.norms, oracle.norms, strict=True)]
    parameters = max(_each(found.parameters, oracle.parameters).values())
    if precision == "fp64":
        gradients = list(_each(found.gradients, oracle.gradients).values())
        of_bound = max(*losses, *norms, *gradients, parameters) / FP64_BOUND
    else:
        gradients = _by_layer(found.gradients, oracle.gradients)
        depths = range(len(gradients) - 1, -1, -1)
        bounds = [K[precision] * C**depth * torch.finfo(TYPES[precision]).eps for depth in depths]
        shares = [each / bound for each, bound in zip(gradients, bounds, strict=True)]
        of_bound = max(*shares, losses[0] / bounds[0], norms[0] / bounds[0])
    return Difference(max(losses), max(gradients), max(norms), parameters, of_bound)


def _each(found: dict[str, Tensor], oracle: dict[str, Tensor]) -> dict[str, float]:
    """Return for every tensor the norm of the difference over the norm."""
    assert found.keys() == oracle.keys(), found.keys() ^ oracle.keys()
    largest = max(float(value.norm()) for value in oracle.values())

    def size(name: str) -> float:
        """A bias of the keys has a gradient of 0, and is moved by rounding alone: it is held against the largest."""
        return largest if name.endswith("key.bias") else float(oracle[name].norm())

    return {name: float((found[name] - value).norm()) / size(name) for name, value in oracle.items()}


def _by_layer(found: dict[str, Tensor], oracle: dict[str, Tensor]) -> list[float]:
    """The same of all tensors of a layer together: the embeddings', each layer's, those of what follows."""
    squares: dict[int, list[float]] = {}
    for name, value in oracle.items():
        number = re.match(r"layers\.(\d+)", name)
        layer = int(number[1]) + 1 if number else 0 if "embedding" in name else 1_000_000
        sums = squares.setdefault(layer, [0.0, 0.0])
        sums[0] += float((found[name] - value).norm()) ** 2
        sums[1] += float(value.norm()) ** 2
    return [(squares[layer][0] / squares[layer][1]) ** 0.5 for layer in sorted(squares)]


def compare(cells: Sequence[Cell], done: Callable[[int], None] = lambda count: None) -> dict[Cell, Difference | str]:
    """Each cell's difference from the oracle, or the error that it ended in; cells of one world size share processes.

    `done` is told from time to time how many cells have been looked at.
    """
    results: dict[Cell, Difference | str] = {}
    for world in sorted({cell.world for cell in cells}):
        left = [cell for cell in cells if cell.world == world]
        while left:
            finished, error = _look_at(world, left, partial(_tell, done, len(results)))
            results |= dict(zip(left, finished, strict=False))
            if error is not None:
                results[left[len(finished)]] = error
            left = left[len(finished) + (error is not None) :]
    return {cell: results[cell] for cell in cells}


def _tell(done: Callable[[int], None], before: int, count: int) -> None:
    done(before + count)


def _look_at(world: int, cells: list[Cell], done: Callable[[int], None]) -> tuple[list[Difference], str | None]:
    """The differences of the first cells, and the error of the one after them, at which the ranks ended."""
    with tempfile.TemporaryDirectory() as folder:
        path, error = Path(folder) / "differences.jsonl", None
        path.touch()

        def finished() -> int:
            count = path.read_text().count("\n")
            done(count)
            return count

        try:
            wait(start(world, folder, _work, world, cells, str(path)), finished)
        except Exception as raised:  # noqa: BLE001  # a table shows what went wrong, whatever it was
            lines = str(raised).strip().splitlines()
            error = next((line for line in reversed(lines) if re.match(r"[\w.]*Error\b", line)), lines[-1])
        return [Difference(**json.loads(line)) for line in path.read_text().splitlines()], error


def _work(rank: int, world: int, cells: list[Cell], results: str) -> None:
    # that gathering what is split twice takes two steps, and that a layer gives a view of what it has: no harm
    warnings.filterwarnings("ignore", "FSDP2-wrapped module")
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    arranged: dict[Any, Mesh] = {}
    oracles: dict[Any, Outcome] = {}
    for cell in cells:
        torch.set_default_dtype(torch.float64 if cell.precision == "fp64" else torch.float32)
        grid = (cell.tensor, cell.pipeline, cell.context, cell.zero_shard if cell.zero else 1)
        if grid not in arranged:
            arranged[grid] = build_mesh(Mesh(rank, world), cell.parallel)
        found = spread_steps(cell, arranged[grid])
        if rank == 0:
            key = (cell.model, cell.precision, cell.trained)
            if key not in oracles:
                oracles[key] = _oracle(cell)
            with Path(results).open("a") as file:
                file.write(json.dumps(asdict(difference(found, oracles[key], cell.precision))) + "\n")
        if world > 1:
            dist.barrier()  # or a rank that fails at the next cell would end the first one at this


def _oracle(cell: Cell) -> Outcome:
    if cell.precision == "bf16":
        return spread_steps(Cell(precision="bf16", trained=cell.trained), Mesh(), cell.model)
    return whole_model_steps(cell.model, train_settings(cell.trained))
