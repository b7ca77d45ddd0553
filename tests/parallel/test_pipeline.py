"""Where a pipeline is cut, what it holds while it runs, and schedules of the user's own."""

import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor

from megalith import schedules
from megalith.arithmetic import head_forward_flops, layer_forward_flops
from megalith.errors import InputError, RecipeError
from megalith.parallel import Mesh, build_mesh, parallelize, pipeline
from megalith.recipe import ModelConfig
from megalith.recipe.machine import ParallelConfig
from megalith.schedules import Op, action_lists, layers_of_stages
from tests.parallel.cells import Cell, sample_batch
from tests.parallel.processes import on_ranks

MICRO_BATCHES = 12
OWN = """0F0,0F1,0F2,0F3,0F4,0F5,0I0,0F6,0F7,0B1,0I2,0F8,0W2,0W0,0B3,0F9,0B4,0F10,0B5,0F11,0B6,0B7,0B8,0B9,0B10,0B11
,,1F0,1B0,1F1,1I1,1F2,1B2,1W1,1F3,1B3,1F4,1B4,1F5,1B5,1F6,1B6,1F7,1B7,1F8,1B8,1F9,1B9,1F10,1B10,1F11,1B11
"""


def shape(layers: int, vocab_size: int, hidden: int = 64) -> ModelConfig:
    return ModelConfig(
        num_layers=layers, hidden_size=hidden, num_heads=4, vocab_size=vocab_size, vocab_multiple=1, sequence_length=64
    )


def counts(config: ModelConfig, stages: int) -> list[int]:
    return [len(each) for each in layers_of_stages(config, stages)]


def test_the_logits_count_with_the_last_stage() -> None:
    """Each example by hand: how many layers' worth the logits are, and where the rest goes."""
    a_layer = layer_forward_flops(shape(8, 100)) / (2 * 64)  # a vocabulary whose logits cost as much as a layer
    assert counts(shape(7, int(a_layer)), 4) == [2, 2, 2, 1]
    assert counts(shape(6, int(2 * a_layer)), 4) == [2, 2, 2, 0]
    assert counts(shape(78, int(2.5 * a_layer)), 4) == [20, 20, 20, 18]
    assert counts(shape(8, int(20 * a_layer)), 4) == [2, 3, 3, 0]


def test_of_equals_the_later_stage_has_the_layer() -> None:
    assert counts(shape(5, 1), 4) == [1, 1, 2, 1]
    assert counts(shape(6, 1), 4) == [1, 2, 2, 1]
    assert counts(shape(8, 1), 4) == [2, 2, 2, 2]


def test_two_stages_more_than_layers_leave_both_ends_bare() -> None:
    """Llama 3 405B: a stage with the embedding alone, one with the logits alone, and a layer in each between."""
    llama = shape(126, 128_256, 16_384)
    assert counts(llama, 128) == [0, *[1] * 126, 0]
    assert counts(llama, 127) == [*[1] * 126, 0]
    assert counts(llama, 126) == [1] * 126
    assert counts(llama, 64) == [1, *[2] * 62, 1]
    assert counts(shape(1, 1000), 2) == [1, 0]
    assert llama.most_stages == 128


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 8, 10])
@pytest.mark.parametrize("layers", [8, 9, 13])
@pytest.mark.parametrize("vocab_size", [1, 1000, 50_000])
def test_no_other_cut_has_a_cheaper_slowest_stage(layers: int, stages: int, vocab_size: int) -> None:
    config = shape(layers, vocab_size)
    cuts = layers_of_stages(config, stages)
    assert [number for cut in cuts for number in cut] == list(range(layers))
    assert all(cuts[1:-1])
    layer, head = layer_forward_flops(config), head_forward_flops(config)
    slowest = max(len(cut) * layer + head * (cut is cuts[-1]) for cut in cuts)
    on_last = [max(-(-(layers - last) // max(1, stages - 1)) * layer, last * layer + head) for last in range(layers)]
    best = min(on_last) if stages > 1 else layers * layer + head
    assert slowest <= best * (1 + 1e-12)


def rank_main(rank: int, folder: str) -> dict[str, Tensor]:
    """Gradients and losses by the user's schedule and by a named one, and receive buffers alive at once."""
    torch.set_default_dtype(torch.float64)
    path = Path(folder) / "own.csv"
    found, alive = {}, Alive()
    pipeline._make_tensor_from_meta = alive.watch(pipeline._make_tensor_from_meta)  # type: ignore[attr-defined]
    for name, options in {
        "1f1b": {},
        "gpipe": {"schedule": "gpipe"},
        "interleaved": {"schedule": "interleaved-1f1b", "virtual_stages": 2},
        "own": {"schedule_file": path},
    }.items():
        parallel = ParallelConfig(tensor=1, pipeline=2, data=1, **options)  # type: ignore[arg-type]  # as a recipe's
        model = parallelize(Cell().model, parallel, build_mesh(Mesh(rank, 2), parallel), dtype=torch.float64, seed=1)
        batches = [sample_batch(Cell().model, 0, first, 1) for first in range(MICRO_BATCHES)]
        model.gradients.zero()
        alive.most = alive.made = 0
        sums = model.forward_backward(batches, [0.1], [0] * MICRO_BATCHES)
        model.reduce_gradients()
        found |= {f"{name}/loss": sums, f"{name}/norm": torch.tensor(model.gradient_norm())}
        found |= {f"{name}/alive": torch.tensor([alive.most, alive.made, alive.now])}
        found |= {f"{name}/scored": model.evaluate(batches)}
    return found


class Alive:
    """How many of the tensors that a function has made are alive."""

    def __init__(self) -> None:
        self.now = self.most = self.made = 0

    def watch(self, make):  # type: ignore[no-untyped-def]  # as the function that it watches
        def watched(*arguments):  # type: ignore[no-untyped-def]
            tensor = make(*arguments)
            self.now, self.made = self.now + 1, self.made + 1
            self.most = max(self.most, self.now)
            weakref.finalize(tensor.untyped_storage(), self._gone)
            return tensor

        return watched

    def _gone(self) -> None:
        self.now -= 1


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("schedules")
    (folder / "own.csv").write_text(OWN)
    return on_ranks(2, rank_main, str(folder))


def test_a_schedule_of_ones_own_gives_the_losses_and_gradients_of_a_named_one(found: list[dict[str, Tensor]]) -> None:
    for rank in found:
        for name in ("own", "gpipe"):
            torch.testing.assert_close(rank[f"{name}/loss"], rank["1f1b/loss"], rtol=1e-13, atol=0)
            torch.testing.assert_close(rank[f"{name}/norm"], rank["1f1b/norm"], rtol=1e-13, atol=0)
    assert found[0]["own/loss"] == 0
    assert found[1]["own/loss"] > 0


def test_a_schedule_of_ones_own_is_what_runs(found: list[dict[str, Tensor]]) -> None:
    """It lets the first rank run ahead, and delays weight gradients: more waits than in 1f1b."""
    assert found[1]["own/alive"][0] > found[1]["1f1b/alive"][0]


def test_scoring_gives_the_losses_of_training(found: list[dict[str, Tensor]]) -> None:
    for name in ("1f1b", "own", "interleaved"):
        torch.testing.assert_close(found[1][f"{name}/scored"], found[1][f"{name}/loss"], rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", ["1f1b", "gpipe", "interleaved", "own"])
def test_a_pipeline_holds_no_more_receive_buffers_than_micro_batches_in_flight(
    found: list[dict[str, Tensor]], name: str
) -> None:
    """A tensor sent and not yet freed by one rank may be held by the next: the fullest rank bounds all."""
    schedule = "interleaved-1f1b" if name == "interleaved" else "gpipe" if name == "gpipe" else "1f1b"
    lists = schedules.build(schedule, 2, 2 if name == "interleaved" else 1, MICRO_BATCHES)
    if name == "own":
        rows = [[cell for cell in line.split(",") if cell] for line in OWN.splitlines()]
        lists = tuple(tuple(map(schedules.parse, row)) for row in rows)
    for rank in found:
        alive, made, left = rank[f"{name}/alive"].tolist()
        assert made == MICRO_BATCHES * (3 if name == "interleaved" else 1)
        assert 1 <= alive <= max(schedules.in_flight(lists)) + 1
        assert left == 0


def write(folder: Path, text: str) -> ParallelConfig:
    (folder / "s.csv").write_text(text)
    return ParallelConfig(tensor=1, pipeline=2, data=1, schedule_file=folder / "s.csv")


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("0F0,0B0\n", InputError, "rows"),
        ("0F0,0B0\n1F0,1X0\n", InputError, "1X0"),
        ("0F0,0B0\n1F0,1B0,1B0\n", RecipeError, "before"),
        ("0F0,0B0\n1F0\n", RecipeError, "1B0"),
        ("0F0,0B0\n0F0,1B0\n", RecipeError, "not on this rank"),
        ("0F0,0B0\n1B0,1F0\n", RecipeError, "wait"),
        ("0F0,0B0,0F1,0B1\n1F0,1B0,1F1,1B1\n", RecipeError, "micro-batch 1 is not"),
    ],
)
def test_a_schedule_that_is_none_is_refused(tmp_path: Path, text: str, kind: type[Exception], said: str) -> None:
    parallel = write(tmp_path, text)
    with pytest.raises(kind, match=said) as raised:
        action_lists(parallel, 1, training=True)
    assert "s.csv" in str(raised.value.where)  # type: ignore[attr-defined]  # a MegalithError


def test_scoring_needs_no_schedule_file(tmp_path: Path) -> None:
    lists = action_lists(write(tmp_path, "broken"), 2, training=False)
    assert [[str(action) for action in own] for own in lists] == [["0F0", "0F1"], ["1F0", "1F1"]]
    assert {action.op for own in lists for action in own} == {Op.FORWARD}
