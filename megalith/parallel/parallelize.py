"""One model spread over ranks: the order in which every parallelism is applied, and a step of the result.

`spread` builds the model without memory, cuts it into pipeline stages, splits its tensors, marks what is recomputed,
compiles its layers, shards it with ZeRO, and only then gives it memory and its first weights.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from megalith.model import MODELS, Transformer
from megalith.model.initialise import initial_value
from megalith.parallel import data
from megalith.parallel.dropout import seed_dropout
from megalith.parallel.masters import Master, local, make_masters, region
from megalith.parallel.pipeline import Pipeline, keep_stage
from megalith.parallel.ranks import Ranks
from megalith.parallel.recompute import recompute_layers
from megalith.parallel.tensor import split_tensors
from megalith.recipe import ModelConfig
from megalith.recipe.machine import ParallelConfig
from megalith.schedules import Lists, action_lists

EMBEDDINGS = ("token_embedding", "position_embedding", "token_type_embedding", "embedding_norm", "output")
"""They compute in fp32: their gradients add up many tokens, and the logits' cross entropy narrows them itself."""

MicroBatch = Mapping[str, Tensor]
"""`tokens` (B, T), and by name what else the model's forward takes."""


@dataclass
class SpreadModel:
    """This rank's part of a model that is trained by all ranks together."""

    config: ModelConfig
    parallel: ParallelConfig
    ranks: Ranks
    stages: dict[int, Transformer]
    """By number in the pipeline."""
    masters: list[Master]
    gradients: data.Gradients
    pipeline: Pipeline | None
    _lists: dict[tuple[int, bool], Lists] = field(default_factory=dict)
    _tied: dist.ProcessGroup | None = None

    @property
    def losses(self) -> tuple[str, ...]:
        """The kinds of loss, in the order of `forward_backward`."""
        return next(iter(self.stages.values())).losses

    def forward_backward(self, batches: Sequence[MicroBatch], weights: Sequence[float], noise: Sequence[int]) -> Tensor:
        """Add the gradients of Σ losses · weights over this data-parallel rank's micro-batches.

        Gives the sums of each kind of loss over them, in fp64, on one rank of those that computed them; zeros on the
        others. `noise` seeds the dropout of each micro-batch.
        """
        scales = torch.tensor(weights, dtype=torch.float64, device=self.ranks.device)
        if self.pipeline is not None:
            self.gradients.before_micro_batch(last=True)
            return self._pipelined(batches, scales, noise)
        (stage,) = self.stages.values()
        sums = torch.zeros(len(self.losses), dtype=torch.float64, device=self.ranks.device)
        for number, (batch, own_noise) in enumerate(zip(batches, noise, strict=True), start=1):
            self.gradients.before_micro_batch(last=number == len(batches))
            tokens, rest = self._arguments(batch, own_noise)
            losses = stage(tokens, **rest)
            (losses * scales).sum().backward()
            sums += losses.detach()
        return self._once(sums)

    @torch.no_grad()
    def evaluate(self, batches: Sequence[MicroBatch]) -> Tensor:
        """The sums of each kind of loss, as `forward_backward` gives them, with no gradient and no dropout.

        Every data-parallel rank must give as many micro-batches, all of one shape.
        """
        for stage in self.stages.values():
            stage.eval()
        if self.pipeline is not None:
            sums = self._pipelined(batches, None, [0] * len(batches))
        else:
            (stage,) = self.stages.values()
            sums = torch.zeros(len(self.losses), dtype=torch.float64, device=self.ranks.device)
            for batch in batches:
                tokens, rest = self._arguments(batch, 0)
                sums += stage(tokens, **rest)
            sums = self._once(sums)
        for stage in self.stages.values():
            stage.train()
        return sums

    def reduce_gradients(self) -> None:
        """Add up the gradients over the ranks, once a step."""
        self.gradients.reduce()
        if self._tied is not None:
            shared = next(m for m in self.masters if m.name == "token_embedding.weight")
            assert shared.value.grad is not None
            dist.all_reduce(shared.value.grad, group=self._tied)

    def gradient_norm(self) -> float:
        """The global norm: each element of the whole model counts once. The same number on every rank."""
        (squared,) = self.ranks.sum(data.squared_norm(self.masters))
        return float(squared**0.5)

    @torch.no_grad()
    def publish(self) -> None:
        """Set the model to its masters, after these have moved."""
        narrow = [(local(m.parameter.detach()), m.value) for m in self.masters if m.parameter.dtype != m.value.dtype]
        if narrow:
            torch._foreach_copy_([own for own, _ in narrow], [value for _, value in narrow])

    def _pipelined(self, batches: Sequence[MicroBatch], weights: Tensor | None, noise: Sequence[int]) -> Tensor:
        assert self.pipeline is not None
        both = [self._arguments(batch, number) for batch, number in zip(batches, noise, strict=True)]
        inputs, rest = [tokens for tokens, _ in both], [named for _, named in both]
        count, length = inputs[0].shape
        if self.parallel.sequence_parallel:
            length //= self.ranks.size("tensor")
        lists = self._schedule(len(batches), training=weights is not None)
        sums = self.pipeline.run(lists, inputs, rest, (count, length, self.config.hidden), weights)
        if sums is None:
            return torch.zeros(len(self.losses), dtype=torch.float64, device=self.ranks.device)
        return self._once(sums)

    def _schedule(self, micro_batches: int, *, training: bool) -> Lists:
        key = (micro_batches, training)
        if key not in self._lists:
            self._lists[key] = action_lists(self.parallel, micro_batches, training=training)
        return self._lists[key]

    def _arguments(self, batch: MicroBatch, noise: int) -> tuple[Tensor, dict[str, Any]]:
        rest: dict[str, Any] = {name: _onto(value, self.ranks.device) for name, value in batch.items()}
        tokens: Tensor = rest.pop("tokens")
        return tokens, rest | ({"noise": noise} if self.config.dropout > 0 else {})

    def _once(self, sums: Tensor) -> Tensor:
        return sums if self.ranks.index("tensor") == 0 else torch.zeros_like(sums)


def spread(
    config: ModelConfig,
    parallel: ParallelConfig,
    ranks: Ranks,
    *,
    dtype: torch.dtype,
    seed: int | None,
    compile_layers: bool = False,
) -> SpreadModel:
    """The model of `config` over all ranks, which stand as `parallel` says; every rank must call it.

    `dtype` is what the layers compute in. Without `seed` the weights are left unset, for a checkpoint to fill.
    """
    count = ranks.size("pipeline") * (parallel.virtual_stages if ranks.size("pipeline") > 1 else 1)
    stages: dict[int, Transformer] = {}
    for number in range(ranks.index("pipeline"), count, ranks.size("pipeline")):
        with torch.device("meta"):
            stage = MODELS[config.family](config)
        keep_stage(stage, number, count)
        if ranks.size("tensor") > 1:
            split_tensors(stage, ranks.along("tensor"), sequence_parallel=parallel.sequence_parallel)
        recompute_layers(stage, parallel.recompute, parallel.recompute_every)
        if compile_layers:
            for block in stage.blocks.values():
                block.compile()
        _set_dtype(stage, dtype, sharded=parallel.zero > 0 and ranks.data_size > 1)
        if parallel.zero > 0 and ranks.data_size > 1:
            data.shard(stage, ranks, parallel.zero, dtype)
        stage.to_empty(device=ranks.device)
        stages[number] = stage.train()
    seed_dropout(stages, ranks.index("tensor"), sequence_parallel=parallel.sequence_parallel)
    if seed is not None:
        for name, parameter in _parameters(stages):
            _fill(parameter, config, name, seed)
    tied = _tied_stages(config, ranks)
    copied = tied is not None and ranks.index("pipeline") > 0
    masters = make_masters(list(_parameters(stages)), ranks, lambda name: copied and name == "token_embedding.weight")
    if seed is not None:
        _refill_wide(masters, config, seed)
    sharded = parallel.zero > 0 and ranks.data_size > 1
    return SpreadModel(
        config=config,
        parallel=parallel,
        ranks=ranks,
        stages=stages,
        masters=masters,
        gradients=data.ShardedGradients(list(stages.values()), masters, parallel.zero)
        if sharded
        else data.FlatGradients(masters, ranks),
        pipeline=Pipeline(stages, count, ranks.along("pipeline"), ranks.device) if count > 1 else None,
        _tied=tied,
    )


def _onto(tensor: Tensor, device: torch.device) -> Tensor:
    """Without waiting for what a GPU still has to do."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _parameters(stages: Mapping[int, Transformer]) -> Iterator[tuple[str, nn.Parameter]]:
    for stage in stages.values():
        yield from stage.named_parameters()


def _set_dtype(stage: Transformer, dtype: torch.dtype, *, sharded: bool) -> None:
    """Layers compute in `dtype`, embeddings in fp32; FSDP2 narrows by itself what it gathers."""
    stage.activation_dtype = dtype
    if not sharded:
        for name, module in stage.named_children():
            if name not in EMBEDDINGS:
                module.to(dtype)


@torch.no_grad()
def _fill(parameter: nn.Parameter, config: ModelConfig, name: str, seed: int) -> None:
    own = local(parameter)
    if own.device.type != "meta":
        own.copy_(initial_value(config, name, parameter.shape, region(parameter), seed))


@torch.no_grad()
def _refill_wide(masters: Sequence[Master], config: ModelConfig, seed: int) -> None:
    """Masters that are wider than the model begin with all their digits."""
    for master in masters:
        if master.value.dtype != master.parameter.dtype and master.value.device.type != "meta":
            shape, place = master.parameter.shape, region(master.parameter)
            master.value.copy_(initial_value(config, master.name, shape, place, seed))


def _tied_stages(config: ModelConfig, ranks: Ranks) -> dist.ProcessGroup | None:
    """The group of this rank's first and last stage, if they share the token embedding and this rank has one of them.

    Every rank takes part in making all the groups.
    """
    stages = ranks.size("pipeline")
    if stages == 1 or not config.tie_embeddings or ranks.mesh is None:
        return None
    lines = ranks.mesh.mesh.reshape(stages, -1).T.tolist()  # the ranks of each pipeline
    pairs = [[line[0], line[-1]] for line in lines]
    own, _ = dist.new_subgroups_by_enumeration(pairs)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return own if ranks.index("pipeline") in (0, stages - 1) else None
