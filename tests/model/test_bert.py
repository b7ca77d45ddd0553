"""BERT against a second one, written out in loops over heads and tokens, in fp64 and with its gradients."""

import pytest
import torch
from torch import Tensor

from megalith.arithmetic import parameters
from megalith.model import BERT, initialise
from megalith.recipe import ModelConfig
from tests.model import loops
from tests.model.loops import SHAPE, Weights

PRE = ModelConfig(**SHAPE, family="bert")
POST = ModelConfig(**SHAPE, family="bert", layer_norm="post")
OTHER = ModelConfig(
    **SHAPE, family="bert", bias=False, tie_embeddings=False, norm="rmsnorm", activation="swiglu", num_kv_heads=2
)
ALL = pytest.mark.parametrize("config", [PRE, POST, OTHER], ids=["pre-norm", "post-norm", "no-bias-untied"])
LENGTHS = [7, 4, 5]  # of 7: the second and third sequence end in padding


def oracle_features(config: ModelConfig, w: Weights, tokens: list[int], segments: list[int], length: int) -> Tensor:
    """The input of the heads (T, E): every position attends to all that are not padding."""
    types = [w["token_type_embedding.weight"][segment] for segment in segments]
    x = loops.embeddings(config, w, tokens) + torch.stack(types)
    if config.layer_norm == "post":
        x = loops.norm(config, w, "embedding_norm", x)
    return loops.layers(config, w, x, seen=lambda place: range(length))


def oracle_logits(config: ModelConfig, w: Weights, features: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (T, vocab_size) of the tokens of one sequence, and (2,) of the order of its pieces."""
    y = loops.norm(config, w, "heads.norm", loops.gelu(loops.linear(w, "heads.dense", features)))
    output = w["token_embedding.weight"] if config.tie_embeddings else w["output.weight"]
    logits = y @ output.T + w.get("heads.output_bias", torch.zeros(()))
    first = torch.tanh(loops.linear(w, "heads.pooler", features[0]))
    return logits[:, : config.vocab_size], loops.linear(w, "heads.sentence_order", first)


def trained_looking(config: ModelConfig) -> BERT:
    model = BERT(config)
    loops.make_trained_looking(model)
    return model


def some_batch(config: ModelConfig) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    shape = (len(LENGTHS), config.sequence_length)
    return {
        "x": torch.randint(config.vocab_size, shape, generator=generator),
        "segments": torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0]]),
        "lengths": torch.tensor(LENGTHS),
    }


def some_targets() -> dict[str, Tensor]:
    targets = torch.full((len(LENGTHS), 7), -100)
    targets[0, 2], targets[0, 6], targets[1, 0], targets[2, 3] = 5, 12, 0, 7
    return {"targets": targets, "order": torch.tensor([1, -100, 0])}


@ALL
def test_logits_are_those_of_a_model_written_out_in_loops(config: ModelConfig) -> None:
    model, batch = trained_looking(config), some_batch(config)
    logits, order = model(**batch)
    for row, length in enumerate(LENGTHS):
        tokens, segments = batch["x"][row].tolist(), batch["segments"][row].tolist()
        weights = dict(model.named_parameters())
        expected = oracle_logits(config, weights, oracle_features(config, weights, tokens, segments, length))
        # fp64 has 16 digits; sums of at most 50 terms lose two or three of them
        torch.testing.assert_close(logits[row, :, : config.vocab_size], expected[0], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(order[row], expected[1], rtol=1e-11, atol=1e-11)
    assert torch.isneginf(logits[..., config.vocab_size :]).all()


@ALL
def test_both_losses_and_every_gradient_are_those_of_the_loops(config: ModelConfig) -> None:
    model, batch, wanted = trained_looking(config), some_batch(config), some_targets()
    losses = model(**batch, **wanted)
    (losses[0] / 4 + losses[1] / 2).backward()
    weights = loops.own_weights(model)
    masked, order = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for row, length in enumerate(LENGTHS):
        tokens, segments = batch["x"][row].tolist(), batch["segments"][row].tolist()
        features = oracle_features(config, weights, tokens, segments, length)
        logits, order_logits = oracle_logits(config, weights, features)
        for place, target in enumerate(wanted["targets"][row].tolist()):
            if target != -100:
                masked = masked + loops.nats(logits[place], target)
        if (answer := int(wanted["order"][row])) != -100:
            order = order + loops.nats(order_logits, answer)
    (masked / 4 + order / 2).backward()
    torch.testing.assert_close(losses, torch.stack([masked, order]), rtol=1e-12, atol=0)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, weights[name].grad, rtol=1e-9, atol=1e-10, msg=name)


@ALL
def test_parameters_are_as_many_as_the_arithmetic_says_part_by_part(config: ModelConfig) -> None:
    model, count = BERT(config), parameters(config)

    def size(*names: str) -> int:
        modules = [module for name, module in model.named_children() if name in names]
        return sum(parameter.numel() for module in modules for parameter in module.parameters())

    assert count.heads == size("heads")
    assert count.final_norm == size("final_norm", "embedding_norm")
    assert count.position_embedding == size("position_embedding", "token_type_embedding")
    assert count.output_projection == size("output")
    assert count.total == sum(parameter.numel() for parameter in model.parameters())


@ALL
def test_padding_is_seen_by_nobody(config: ModelConfig) -> None:
    model, batch, wanted = trained_looking(config), some_batch(config), some_targets()
    other = {name: value.clone() for name, value in batch.items()}
    for row, length in enumerate(LENGTHS):
        other["x"][row, length:] = (other["x"][row, length:] + 1) % config.vocab_size
        other["segments"][row, length:] = 1
    torch.testing.assert_close(model(**batch, **wanted), model(**other, **wanted), rtol=1e-12, atol=0)


@ALL
def test_a_token_sees_what_comes_after_it(config: ModelConfig) -> None:
    model, batch = trained_looking(config), some_batch(config)
    before = model(**batch)[0][0, 0, : config.vocab_size]
    batch["x"][0, 6] = (batch["x"][0, 6] + 1) % config.vocab_size
    assert not torch.allclose(model(**batch)[0][0, 0, : config.vocab_size], before)


@ALL
def test_a_batch_in_which_nothing_counts_gives_losses_and_gradients_of_zero(config: ModelConfig) -> None:
    model, batch = trained_looking(config), some_batch(config)
    nothing = {name: torch.full_like(value, -100) for name, value in some_targets().items()}
    losses = model(**batch, **nothing)
    losses.sum().backward()
    assert losses.tolist() == [0.0, 0.0]
    assert all(torch.count_nonzero(parameter.grad) == 0 for parameter in model.parameters())


def test_the_losses_need_no_gradients() -> None:
    model, batch, wanted = trained_looking(PRE), some_batch(PRE), some_targets()
    with torch.no_grad():
        alone = model(**batch, **wanted)
    torch.testing.assert_close(alone, model(**batch, **wanted).detach(), rtol=0, atol=0)


@pytest.mark.parametrize("layer_norm", ["pre", "post"])
def test_bf16_layers_and_heads_leave_losses_and_gradients_near_those_of_fp32(layer_norm: str) -> None:
    shape = {**SHAPE, "hidden_size": 64, "vocab_size": 300, "sequence_length": 64}
    config = ModelConfig(**shape, family="bert", layer_norm=layer_norm)
    model, narrow = BERT(config), BERT(config)
    for each in (model, narrow):
        initialise(each, config, 0)
    loops.narrow(narrow)
    tokens = torch.randint(300, (8, 64), generator=torch.Generator().manual_seed(1))
    targets = torch.where(tokens % 7 == 0, tokens, -100)
    rest = {"segments": tokens % 2, "lengths": torch.arange(57, 65), "order": torch.arange(8) % 2}
    losses, rough = model(tokens, targets, **rest), narrow(tokens, targets, **rest)
    (losses / torch.tensor([70, 8])).sum().backward()
    (rough / torch.tensor([70, 8])).sum().backward()
    # bf16 rounds to 2^-9; each token's loss is off by a few of those of logits of size 1, a sum of 8 pairs by more
    assert rough.tolist() == pytest.approx(losses.tolist(), rel=1e-2)
    assert float(rough[0].detach()) == pytest.approx(float(losses[0].detach()), rel=1e-3)
    whole = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    for (name, parameter), other in zip(model.named_parameters(), narrow.parameters(), strict=True):
        assert (parameter.grad - other.grad).norm() < 0.02 * whole, name
    assert narrow.token_embedding.weight.grad.dtype == torch.float32
