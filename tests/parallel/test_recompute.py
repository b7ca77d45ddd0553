"""Selective recomputation: less is kept, and every number is the same to the bit."""

from typing import Any

import pytest
import torch
from torch import Tensor

from megalith.model import GPT, initialise
from megalith.parallel import recompute
from megalith.parallel.recompute import gated, recompute_layers
from megalith.recipe import ModelConfig
from tests.parallel.cells import FAMILIES

GPU = torch.device("cuda")  # named, not used: its attention keeps no scores
SHAPE = {"num_layers": 2, "hidden_size": 32, "num_heads": 4, "sequence_length": 24, "vocab_size": 90}
LLAMA = FAMILIES["llama"]


def model_of(shape: dict[str, Any], what: str, device: torch.device = GPU) -> GPT:
    config = ModelConfig.model_validate(SHAPE | {"vocab_multiple": 1} | shape)
    model = GPT(config)
    initialise(model, config, 3)
    recompute_layers(model, what, 1, device)
    return model


def step(model: GPT) -> tuple[list[Tensor], int]:
    """The loss, with all gradients; and the bytes that its graph keeps, weights left out."""
    tokens = torch.randint(90, (2, 24), generator=torch.Generator().manual_seed(1))
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(tokens, tokens)
    loss.sum().backward()
    return [loss.detach(), *(each.grad for each in model.parameters() if each.grad is not None)], sum(kept.values())


@pytest.mark.parametrize("what", ["selective", "full"])
@pytest.mark.parametrize("device", [GPU, torch.device("cpu")], ids=str)
@pytest.mark.parametrize("family", ["gpt", "llama", "qwen3", "olmo2", "pythia"])
def test_losses_and_gradients_are_equal_to_the_bit(family: str, device: torch.device, what: str) -> None:
    shape = FAMILIES[family]
    plain, _ = step(model_of(shape, "none"))
    again, _ = step(model_of(shape, what, device))
    assert len(plain) == len(again)
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


def own_bytes(model: GPT) -> int:
    """Bytes that a step leaves allocated between its passes, by weak references to every storage."""
    tokens = torch.zeros(2, 24, dtype=torch.long)
    from megalith.planning.dryrun.storages import Storages

    storages = Storages()

    class See(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for each in torch.utils._pytree.tree_leaves(out):
                if isinstance(each, Tensor):
                    storages.see(each, "activations")
            return out

    with See():
        loss = model.run_layers(model.embed(tokens))
    held = storages._now
    assert loss.requires_grad
    return held


@pytest.mark.parametrize("family", ["gpt", "llama"])
def test_norms_and_activations_are_not_kept(family: str) -> None:
    """Per layer and token: two norms' results, and the activation (of a SwiGLU with its SiLU), in fp32."""
    plain, less = (own_bytes(model_of(FAMILIES[family], what)) for what in ("none", "selective"))
    config = model_of(FAMILIES[family], "none").config
    width = config.ffn_hidden * (2 if family == "llama" else 1)
    assert plain - less == 2 * 48 * 4 * (2 * 32 + width)


def test_a_norm_is_made_again_once_for_the_three_products_that_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    plain = recompute._Recipe.again

    def counting(recipe: Any) -> Tensor:
        made.append(recipe.made is None)
        return plain(recipe)

    monkeypatch.setattr(recompute._Recipe, "again", counting)
    step(model_of(LLAMA, "selective"))
    # of each layer: one norm for three products, one for two, and the activation for one
    assert (len(made), sum(made)) == (2 * 6, 2 * 3)


def test_a_gated_activation_s_gradient_is_autograd_s_to_the_bit() -> None:
    gate, up = (torch.randn(5, 7, requires_grad=True) for _ in range(2))
    outer = torch.randn(5, 7)
    found = torch.autograd.grad(gated(gate, up), (gate, up), outer)
    expected = torch.autograd.grad(torch.nn.functional.silu(gate) * up, (gate, up), outer)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
