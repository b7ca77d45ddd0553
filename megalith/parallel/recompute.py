"""Activation recomputation: what the backward pass computes again rather than finds kept.

`full` keeps a layer's input alone and computes the layer again (one more forward pass). `selective` computes again what
costs no product: the norms' outputs and the MLP's activations, which only products keep, and a SwiGLU's SiLU; with an
attention that keeps its scores (on a CPU, or with relative positions) also softmax(q·kᵀ)·v (2205.05198 §5). Flash
attention keeps none. Dropout draws the same numbers the second time. A compiled layer does this by itself: what is
quick to compute again is fused into the backward pass.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from megalith.model import Transformer
from megalith.model.layer import Layer, SwiGLU, swiglu
from megalith.parallel.master_weights import local


def recompute_layers(model: Transformer, what: str, every: int, device: torch.device) -> None:
    """Recompute `what` ("none", "selective", "full") in each `every`-th layer, counted through the whole model."""
    if what == "none":
        return
    for number, layer in model.numbered_layers.items():
        if number % every:
            continue
        if what == "full":
            _recompute(layer)
            continue
        if keeps_scores(device) or layer.attention.config.positions == "relative":
            _recompute(layer.attention.core)
        _make_again(layer)


def recomputed_whole(model: Transformer, what: str, every: int) -> list[int]:
    """Numbers of the layers of which the backward pass computes all again."""
    return [number for number in model.numbered_layers if what == "full" and number % every == 0]


def keeps_scores(device: torch.device) -> bool:
    """Whether the attention keeps its scores for the backward pass: a GPU's kernels keep none."""
    return device.type == "cpu"


def _recompute(module: nn.Module) -> None:
    forward, draws = module.forward, _draws(module)

    def again(*args: Any, **named: Any) -> Any:  # a partial of `checkpoint` would not be compiled
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=draws, **named)

    module.forward = again


def _draws(module: nn.Module) -> bool:
    """Whether the module draws random numbers: then they are to be the same again."""
    return any(getattr(each, "dropout", 0.0) or getattr(each, "p", 0.0) for each in module.modules())


def _make_again(layer: Layer) -> None:
    """Have the layer's products keep how their inputs were made from what is kept anyway."""
    made = _Made()
    for norm in (layer.attention_norm, layer.mlp_norm):
        norm.forward = made.remembered(norm.forward)
    activate = gated if isinstance(layer.mlp, SwiGLU) else layer.mlp.activate
    layer.mlp.activate = made.remembered(cast(Callable[..., Tensor], activate))  # type: ignore[assignment]  # torch lets a plain function stand for a module
    forward = layer.forward

    def keep_less(*args: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return forward(*args, **named)
        with saved_tensors_hooks(made.pack, _unpack):
            return forward(*args, **named)

    layer.forward = keep_less  # type: ignore[method-assign]  # meant: of this layer alone, not of its class


@dataclass
class _Recipe:
    """How a tensor was made; while someone waits for it, the tensor."""

    make: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    waiting: int = 0
    made: Tensor | None = None

    def again(self) -> Tensor:
        """The tensor: made once for all that keep it."""
        if self.made is None:
            with torch.no_grad():
                self.made = local(self.make(*self.inputs))
        made = self.made
        self.waiting -= 1
        if self.waiting <= 0:
            self.made = None
        return made


@dataclass(frozen=True)
class _Kept:
    """In the place of a kept tensor: a view of one that is made again."""

    recipe: _Recipe
    size: torch.Size
    stride: tuple[int, ...]
    offset: int
    part_of: tuple[DeviceMesh, Sequence[Placement], torch.Size, tuple[int, ...]] | None
    """Where it is one rank's part of a tensor: the ranks, how it is cut, and the whole's size and strides."""


@dataclass
class _Made:
    """Tensors made in a layer that are still there, by their storage."""

    by_storage: dict[int, tuple[weakref.ref[Any], _Recipe]] = field(default_factory=dict)

    def remembered(self, make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The function, whose result is not kept but made again; what it takes is kept."""

        def remember(*inputs: Tensor) -> Tensor:
            y = make(*inputs)
            if torch.is_grad_enabled() and not torch.compiler.is_compiling():
                storage = local(y).untyped_storage()
                key = storage._cdata
                if key not in {local(each).untyped_storage()._cdata for each in inputs}:
                    recipe = _Recipe(make, tuple(each.detach() for each in inputs))
                    self.by_storage[key] = weakref.ref(storage, lambda _: self.by_storage.pop(key, None)), recipe
            return y

        return remember

    def pack(self, tensor: Tensor) -> Tensor | _Kept:
        own = local(tensor)
        found = self.by_storage.get(own.untyped_storage()._cdata)
        if found is None:
            return tensor
        _, recipe = found
        recipe.waiting += 1
        part_of = None
        if isinstance(tensor, DTensor):
            part_of = tensor.device_mesh, tensor.placements, tensor.shape, tensor.stride()
        return _Kept(recipe, own.size(), own.stride(), int(own.storage_offset()), part_of)


def _unpack(kept: Tensor | _Kept) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    own = kept.recipe.again().as_strided(kept.size, kept.stride, kept.offset)
    if kept.part_of is None:
        return own
    mesh, placements, shape, stride = kept.part_of
    return DTensor.from_local(own, mesh, placements, run_check=False, shape=shape, stride=stride)


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """SiLU(gate) · up, which keeps these two alone."""
    if torch.compiler.is_compiling():
        return swiglu(gate, up)
    y: Tensor = _Gated.apply(gate, up)  # type: ignore[no-untyped-call]  # torch leaves `apply` untyped
    return y


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate) * up

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        of_up = outer[0] * F.silu(gate)
        return torch.ops.aten.silu_backward(outer[0] * up, gate), of_up
