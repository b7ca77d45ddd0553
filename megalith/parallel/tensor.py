"""Tensor parallelism inside each layer (Megatron-LM §3), laid on a model from outside with DTensor.

The first product of a pair is split by columns (attention: by heads), the second by rows, so that a layer costs two
all-reduces forward and two backward. With sequence parallelism (2205.05198 §4.2) the residual stream and its norms
are split along the sequence, and each all-reduce becomes a reduce-scatter and an all-gather. The token embedding and
the logits are split by vocabulary; `vocabulary` has their cross entropy. A bert's heads are not split, but for the
logits: every rank has the whole of them, and finds the same gradients.
"""

from collections.abc import Callable, Container

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from megalith.model import Transformer
from megalith.parallel.heads import HeadNorm, RelativeHeads, SharedHeads, WholeNorm
from megalith.parallel.sequence import GatheredProducts
from megalith.parallel.vocabulary import vocabulary_parallel_cross_entropy, vocabulary_parallel_embedding
from megalith.recipe import ModelConfig
from megalith.topology import key_heads


def split_tensors(
    model: Transformer, mesh: DeviceMesh, *, sequence_parallel: bool, recomputed: Container[int] = ()
) -> None:
    """Split `model` over the ranks of `mesh`; its activations between layers stay plain tensors.

    `recomputed` are the numbers of the layers that the backward pass computes again as a whole.
    """
    stream = Shard(1) if sequence_parallel else Replicate()
    model.sequence_ranks = mesh.size() if sequence_parallel else 1
    plan: dict[str, ParallelStyle] = {
        "token_embedding": _OwnRows(model, stream),
        "output": ColwiseParallel(),
    }
    if sequence_parallel:
        plan |= {
            "position_embedding": _OwnTokens(),
            "token_type_embedding": _OwnTokens(),
            "embedding_norm": SequenceParallel(use_local_output=True),
            "final_norm": SequenceParallel(),
            # the gradient that comes back is whole on every rank, which takes its own tokens of it
            "heads": PrepareModuleInput(
                input_layouts=(stream,), desired_input_layouts=(Replicate(),), use_local_output=True
            ),
        }
    parallelize_module(model, mesh, {name: style for name, style in plan.items() if hasattr(model, name)})
    for number, block in model.numbered_layers.items():
        parallelize_module(block, mesh, _block_plan(block, stream, sequence_parallel) | _heads_plan(model.config, mesh))
        if sequence_parallel:
            gathered = GatheredProducts(mesh, keeps_whole=number in recomputed)
            block.attention.products = gathered
            block.mlp.products = gathered  # type: ignore[assignment]  # a function, in a module that mypy takes for any
    if hasattr(model, "heads"):
        _split_bias(model.heads, mesh)  # type: ignore[arg-type]  # it is a module
    model.cross_entropy = vocabulary_parallel_cross_entropy


def _block_plan(block: nn.Module, stream: Replicate | Shard, sequence_parallel: bool) -> dict[str, ParallelStyle]:
    plan: dict[str, ParallelStyle] = {
        "attention.output": RowwiseParallel(output_layouts=stream),
        "mlp.up": ColwiseParallel(),
        "mlp.down": RowwiseParallel(output_layouts=stream),
    }
    if hasattr(block.mlp, "gate"):
        plan["mlp.gate"] = ColwiseParallel()
    if sequence_parallel:
        plan |= {name: SequenceParallel(use_local_output=True) for name in ("attention_norm", "mlp_norm")}
    else:  # one gradient of the input for query, key and value together: one all-reduce, not three
        whole = (Replicate(),)
        plan |= {
            name: PrepareModuleInput(input_layouts=whole, desired_input_layouts=whole) for name in ("attention", "mlp")
        }
    return plan


def _heads_plan(config: ModelConfig, mesh: DeviceMesh) -> dict[str, ParallelStyle]:
    heads, size = key_heads(config, mesh.size(), mesh.get_local_rank()), config.head_dim
    plan: dict[str, ParallelStyle] = {
        "attention.query": ColwiseParallel(),
        "attention.key": SharedHeads(heads, size) if heads else ColwiseParallel(),
        "attention.value": SharedHeads(heads, size) if heads else ColwiseParallel(),
    }
    if config.positions == "relative":
        plan["attention.relative"] = RelativeHeads()
    if config.query_key_norm == "head":
        plan |= {"attention.query_norm": HeadNorm(), "attention.key_norm": HeadNorm()}
    if config.query_key_norm == "whole":
        plan |= {"attention.query_norm": WholeNorm(None, size), "attention.key_norm": WholeNorm(heads, size)}
    return plan


def _split_bias(heads: nn.Module, mesh: DeviceMesh) -> None:
    """Split the bias of the logits as the vocabulary is."""
    if isinstance(heads.output_bias, nn.Parameter):
        heads.output_bias = nn.Parameter(distribute_tensor(heads.output_bias, mesh, [Shard(0)]))


class _OwnRows(ParallelStyle):
    """An embedding whose table is split by rows."""

    def __init__(self, model: Transformer, stream: Placement) -> None:
        super().__init__()
        self.model, self.stream = model, stream

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        table = distribute_tensor(module.weight, device_mesh, [Shard(0)])  # type: ignore[arg-type]  # it is a tensor
        module.register_parameter("weight", nn.Parameter(table))
        module.forward = self._look_up(module)
        return module

    def _look_up(self, module: nn.Module) -> Callable[[Tensor], Tensor]:
        def look_up(tokens: Tensor) -> Tensor:
            dtype = self.model.activation_dtype
            return vocabulary_parallel_embedding(tokens, module.weight, self.stream, dtype)  # type: ignore[arg-type]  # it is a tensor

        return look_up


class _OwnTokens(ParallelStyle):
    """An embedding of ids (B, T) of which each rank looks up those of its own part of the sequence."""

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        return distribute_module(module, device_mesh, self._replicate, self._own, self._plain)  # type: ignore[arg-type]  # torch's annotation leaves out what it passes

    def _replicate(self, name: str, module: nn.Module, mesh: DeviceMesh) -> None:
        for key, parameter in list(module.named_parameters(recurse=False)):
            module.register_parameter(key, nn.Parameter(distribute_tensor(parameter, mesh, [Replicate()])))

    def _own(self, module: nn.Module, inputs: tuple[Tensor], mesh: DeviceMesh) -> Tensor:
        whole: Tensor = DTensor.from_local(inputs[0], mesh, [Replicate()], run_check=False)
        return whole.redistribute(placements=[Shard(1)])  # type: ignore[attr-defined,no-any-return]  # a DTensor

    def _plain(self, module: nn.Module, output: DTensor, mesh: DeviceMesh) -> Tensor:
        own: Tensor = output.to_local()
        return own
