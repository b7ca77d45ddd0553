"""The order in which every parallelism is applied to a model.

`parallelize` builds the model without memory, cuts it into pipeline stages, splits its tensors and
its samples, marks what is recomputed, compiles its layers, shards it with ZeRO, and only then gives it memory and its
first weights.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
import torch.distributed as dist
from torch import Tensor, nn

from megalith.model import MODELS, Transformer
from megalith.model.initialise import initial_value
from megalith.parallel import data_parallel
from megalith.parallel.context import share_samples
from megalith.parallel.distributed_model import DistributedModel
from megalith.parallel.dropout import seed_dropout
from megalith.parallel.master_weights import Master, local, make_masters, region
from megalith.parallel.mesh import Mesh
from megalith.parallel.pipeline import Pipeline, keep_stage
from megalith.parallel.recompute import recompute_layers, recomputed_whole
from megalith.parallel.tensor import split_tensors
from megalith.recipe import ModelConfig
from megalith.recipe.machine import ParallelConfig

EMBEDDINGS = ("token_embedding", "position_embedding", "token_type_embedding", "embedding_norm", "output")
"""They stay in fp32 where nothing is gathered: they are their own masters, and what is looked up is narrowed."""


FirstValue = Callable[[str, torch.Size, tuple[slice, ...]], Tensor]
"""The first value of a parameter by its name and whole shape, at a region of it."""


def parallelize(
    config: ModelConfig,
    parallel: ParallelConfig,
    ranks: Mesh,
    *,
    dtype: torch.dtype,
    seed: int | None,
    weights: FirstValue | None = None,
    compile_layers: bool = False,
    z_loss: float = 0.0,
) -> DistributedModel:
    """The model of `config` over all ranks, which stand as `parallel` says; every rank must call it.

    `dtype` is what the layers compute in. The first weights are drawn from `seed`, or `weights` gives them; without
    either they are left unset, for a checkpoint to fill.
    """
    count = ranks.size("pipeline") * (parallel.virtual_stages if ranks.size("pipeline") > 1 else 1)
    stages: dict[int, Transformer] = {}
    for number in range(ranks.index("pipeline"), count, ranks.size("pipeline")):
        with torch.device("meta"):
            stage = MODELS[config.family](config)
        keep_stage(stage, number, count)
        stage.z_loss = z_loss
        if ranks.size("tensor") > 1:
            again = recomputed_whole(stage, parallel.recompute, parallel.recompute_every)
            split = parallel.sequence_parallel
            split_tensors(stage, ranks.submesh("tensor"), sequence_parallel=split, recomputed=again)
        if ranks.context_group is not None:
            share_samples(stage, ranks)
        recompute_layers(stage, parallel.recompute, parallel.recompute_every, ranks.device)
        if compile_layers:
            for block in stage.numbered_layers.values():
                block.compile()
        _set_dtype(stage, dtype, sharded=parallel.zero > 0 and ranks.gradient_ranks > 1)
        if parallel.zero > 0 and ranks.gradient_ranks > 1:
            data_parallel.shard(stage, ranks, parallel.zero, dtype)
        stage.to_empty(device=ranks.device)
        stages[number] = stage.train()
    seed_dropout(stages, ranks.index("tensor"), sequence_parallel=parallel.sequence_parallel)
    threads = 1
    if weights is None and seed is not None:
        weights, threads = _drawn(config, seed), torch.get_num_threads()
    tied = _tied_stages(config, ranks)
    copied = tied is not None and ranks.index("pipeline") > 0
    masters = make_masters(list(_parameters(stages)), ranks, lambda name: copied and name == "token_embedding.weight")
    if weights is not None:
        _fill(masters, weights, threads)
    sharded = parallel.zero > 0 and ranks.gradient_ranks > 1
    return DistributedModel(
        config=config,
        parallel=parallel,
        ranks=ranks,
        stages=stages,
        masters=masters,
        gradients=data_parallel.ShardedGradients(list(stages.values()), masters, parallel.zero)
        if sharded
        else data_parallel.FlatGradients(masters, ranks),
        pipeline=Pipeline(stages, count, ranks.submesh("pipeline"), ranks.device, parallel.zero) if count > 1 else None,
        tied=tied,
    )


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


def _drawn(config: ModelConfig, seed: int) -> FirstValue:
    return lambda name, shape, place: initial_value(config, name, shape, place, seed)


def _fill(masters: Sequence[Master], weights: FirstValue, threads: int) -> None:
    """Give masters and model their first values: this rank's pieces alone, so many at a time, the largest first."""
    held = [m for m in masters if m.value.device.type != "meta"]
    pieces = [(m, m.parameter.shape, region(m.parameter)) for m in sorted(held, key=lambda m: -m.value.numel())]

    def fill(piece: tuple[Master, torch.Size, tuple[slice, ...]]) -> None:
        master, shape, place = piece
        with torch.no_grad():  # of this thread
            master.value.copy_(weights(master.name, shape, place))
            if master.parameter.dtype != master.value.dtype:
                local(master.parameter).copy_(master.value)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, pieces):
            pass


def _tied_stages(config: ModelConfig, ranks: Mesh) -> dist.ProcessGroup | None:
    """The group of this rank's first and last stage, if they share the token embedding and this rank has one of them.

    Every rank takes part in making all the groups.
    """
    stages = ranks.size("pipeline")
    if stages == 1 or not config.tie_embeddings or ranks.device_mesh is None:
        return None
    lines = ranks.device_mesh.mesh.reshape(stages, -1).T.tolist()  # the ranks of each pipeline
    pairs = [[line[0], line[-1]] for line in lines]
    own, _ = dist.new_subgroups_by_enumeration(pairs)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return own if ranks.index("pipeline") in (0, stages - 1) else None
