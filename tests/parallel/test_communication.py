"""How often ranks speak: counted for one rank of a world that is not there (Megatron-LM §3; 2205.05198 §4.2)."""

from collections import Counter

import pytest
import torch

from megalith.arithmetic import LOSS_ROWS as ROWS
from megalith.parallel import DistributedModel, MicroBatch, loss_weights, parallelize
from tests.parallel.cells import Cell, sample_batch
from tests.parallel.fakes import collectives, fake_ranks

FAMILIES = [("gpt", True), ("gpt", False), ("llama", False), ("bert", True), ("post-norm bert", True)]

PAIRS, PAIRS_BACK = {"all_gather": 2, "reduce_scatter": 2}, {"all_gather": 2 + 2, "reduce_scatter": 2}


def passes(cell: Cell, layers: int, sequences: int = 2) -> tuple[Counter[str], Counter[str]]:
    """The collectives of one micro-batch, forward and backward."""
    config = cell.model.model_copy(update={"num_layers": layers})
    batch = sample_batch(config, 0, 0, sequences)
    with fake_ranks(cell.parallel, cell.world) as ranks:
        (stage,) = parallelize(config, cell.parallel, ranks, dtype=torch.float32, seed=1).stages.values()
        losses = []
        forward = collectives(lambda: losses.append(stage(batch["tokens"], **without_tokens(batch))))
        return forward, collectives(losses[0].sum().backward)


def without_tokens(batch: MicroBatch) -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch.items() if name != "tokens"}


def of_a_layer(cell: Cell) -> tuple[Counter[str], Counter[str]]:
    """Count the messages that one more layer adds, forward and backward."""
    (two, two_back), (three, three_back) = passes(cell, 2), passes(cell, 3)
    assert two <= three
    assert two_back <= three_back
    return three - two, three_back - two_back


@pytest.mark.parametrize("recompute", ["none", "selective"])
@pytest.mark.parametrize(("family", "tied"), FAMILIES)
@pytest.mark.parametrize("tensor", [2, 4])
def test_a_layer_costs_two_all_reduces_forward_and_two_backward(
    family: str, tied: bool, recompute: str, tensor: int
) -> None:
    cell = Cell(family, tied, tensor=tensor, recompute=recompute)
    assert of_a_layer(cell) == ({"all_reduce": 2}, {"all_reduce": 2})


@pytest.mark.parametrize("recompute", ["none", "selective"])
@pytest.mark.parametrize(("family", "tied"), FAMILIES)
def test_with_sequence_parallelism_they_are_pairs_of_all_gather_and_reduce_scatter(
    family: str, tied: bool, recompute: str
) -> None:
    """And backward the inputs of the products are gathered once more."""
    cell = Cell(family, tied, tensor=2, sequence_parallel=True, recompute=recompute)
    assert of_a_layer(cell) == (PAIRS, PAIRS_BACK)


@pytest.mark.parametrize("family", ["qwen3", "pythia", "mistral"])
def test_shared_heads_norms_of_heads_and_parallel_residuals_add_no_message(family: str) -> None:
    assert of_a_layer(Cell(family, tensor=4)) == ({"all_reduce": 2}, {"all_reduce": 2})
    assert of_a_layer(Cell(family, tensor=4, sequence_parallel=True)) == (PAIRS, PAIRS_BACK)


@pytest.mark.parametrize("sequence_parallel", [False, True])
def test_norms_over_all_heads_share_a_number_a_token_each(sequence_parallel: bool) -> None:
    forward, backward = of_a_layer(Cell("olmo2", tensor=4, sequence_parallel=sequence_parallel))
    sums, sums_back = (PAIRS, PAIRS_BACK) if sequence_parallel else ({"all_reduce": 2}, {"all_reduce": 2})
    assert forward == Counter(sums) + Counter(all_reduce=2)
    assert backward == Counter(sums_back) + Counter(all_reduce=2)


def test_full_recomputation_repeats_the_forward_collectives_up_to_the_last() -> None:
    """Torch stops computing again where all that was dropped is back: the layer's last sum is not needed.

    What has been gathered again for this pass is kept until its end.
    """
    assert of_a_layer(Cell(tensor=2, recompute="full")) == ({"all_reduce": 2}, {"all_reduce": 2 + 1})
    forward, backward = of_a_layer(Cell(tensor=2, recompute="full", sequence_parallel=True))
    assert forward == {"all_gather": 2, "reduce_scatter": 2}
    assert backward == {"all_gather": 2 + 2, "reduce_scatter": 2 + 1}


@pytest.mark.parametrize(("family", "tied"), FAMILIES)
def test_the_vocabulary_costs_one_all_reduce_to_embed_two_for_the_loss_and_one_backward(
    family: str, tied: bool
) -> None:
    cell = Cell(family, tied, tensor=2)
    forward, backward = passes(cell, 1)
    layer_forward, layer_backward = of_a_layer(cell)
    assert forward - layer_forward == {"all_reduce": 1 + 2}
    assert backward - layer_backward == {"all_reduce": 1}


def test_the_loss_shares_its_two_numbers_once_for_every_few_hundred_tokens() -> None:
    few, _ = passes(Cell(tensor=2), 1)
    many, _ = passes(Cell(tensor=2), 1, sequences=2 * ROWS // 12)
    assert many - few == {"all_reduce": 2}


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_gradients_are_summed_over_the_data_axis_once_a_step(zero: int, micro_batches: int) -> None:
    """ZeRO-2 and 3 without a pipeline sum after each micro-batch, so as to hold no whole gradient for long."""
    cell = Cell(data=2, zero=zero)
    with fake_ranks(cell.parallel, 2) as ranks:
        model = parallelize(cell.model, cell.parallel, ranks, dtype=torch.float32, seed=1)
        found = collectives(lambda: take_gradients(model, cell, micro_batches))
    if zero == 0:
        assert found == {"all_reduce": 1}
    else:
        units = cell.model.layers + 2  # layers, the last norm, and the embeddings
        assert found["reduce_scatter"] == units * (micro_batches if zero >= 2 else 1)
        assert found["all_reduce"] == 0


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("zero", [0, 1])
def test_hybrid_zero_sums_over_its_shards_and_then_over_the_groups_once_a_step(zero: int, micro_batches: int) -> None:
    cell = Cell(data=4, zero=zero, zero_shard=2)
    with fake_ranks(cell.parallel, 4) as ranks:
        model = parallelize(cell.model, cell.parallel, ranks, dtype=torch.float32, seed=1)
        found = collectives(lambda: take_gradients(model, cell, micro_batches))
    units = cell.model.layers + 2
    wanted = {"all_reduce": 1} if zero == 0 else {"all_reduce": units, "reduce_scatter": units}
    assert {kind: found[kind] for kind in ("all_reduce", "reduce_scatter") if found[kind]} == wanted


def take_gradients(model: DistributedModel, cell: Cell, micro_batches: int) -> None:
    model.gradients.zero()
    batches = [sample_batch(cell.model, 0, first, 1) for first in range(micro_batches)]
    model.forward_backward(batches, loss_weights([100.0], 1.0), [0] * micro_batches)
    model.reduce_gradients()
